"""Python code for an image: locked wheels of any architecture, the project's own code, and bytecode for both."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.image.entries import Entry, File
from tools.image.errors import ImageError

VERSION = (3, 11)
"""Of the interpreter in the images: Debian 12's."""
SITE = "usr/local/lib/python3.11/dist-packages"
_ABIS = ("cp311", "abi3", "none")
# What wheels for glibc are named after; Debian 12 has glibc 2.36.
_MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
_PARTS_OF_THE_PROJECT = ("dra_driver", "drivers", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Distribution:
    """What an image has of the Python package index."""

    name: str
    version: str
    licence: str
    """As the package states it; empty where it does not."""


def locked(lock: Path, architecture: str) -> tuple[dict[str, Entry], list[Distribution]]:
    """The files of the wheels that a lock names, and what they are. Raises ImageError with what pip said."""
    platforms = [f"--platform={name}_{architecture}" for name in _MANYLINUX]
    abis = [f"--abi={abi}" for abi in _ABIS]
    version = f"--python-version={VERSION[0]}.{VERSION[1]}"
    wanted = ["--only-binary=:all:", "--implementation=cp", version, *abis, *platforms]
    with tempfile.TemporaryDirectory() as folder:
        _pip("install", "--target", folder, "--no-deps", "--require-hashes", *wanted, "-r", str(lock))
        return _entries(Path(folder)), _distributions(Path(folder))


def project(root: Path) -> dict[str, Entry]:
    """The project's own code, as a wheel has it."""
    with tempfile.TemporaryDirectory() as folder:
        # A copy: the build writes beside the sources.
        source, target = Path(folder) / "source", Path(folder) / "target"
        for name in _PARTS_OF_THE_PROJECT:
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy2
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            copy(root / name, source / name)
        _pip("install", "--target", str(target), "--no-deps", "--no-build-isolation", "--no-index", str(source))
        return _entries(target)


def _pip(*words: str) -> None:
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    options = ("--no-compile", "--no-warn-script-location", "--root-user-action=ignore")
    done = subprocess.run((*command, *options), capture_output=True, check=False, env=environment, timeout=900)
    if done.returncode != 0:
        raise ImageError(f"pip failed: {done.stderr.decode(errors='replace').strip()[-2000:]}")


def _entries(folder: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        # Scripts name the interpreter that ran pip; the other two say where a package came from on this machine.
        if place.parts[0] == "bin" or path.name in {"direct_url.json", "RECORD"} or not path.is_file():
            continue
        found[f"{SITE}/{place}"] = File(path.read_bytes())
    return found


def _distributions(folder: Path) -> list[Distribution]:
    found = importlib.metadata.distributions(path=[str(folder)])
    return sorted((_described(one) for one in found), key=lambda one: one.name)


def _described(one: importlib.metadata.Distribution) -> Distribution:
    fields = one.metadata
    stated = [fields[key] for key in ("License-Expression", "License") if key in fields]
    licence = stated[0] if stated else ""
    # Some packages put the whole text there.
    return Distribution(fields["Name"], one.version, licence if len(licence) <= 100 else "")


def with_bytecode(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries and, for each module in them, its bytecode: a container starts in a third of the time.

    The bytecode is marked as unchecked, so that it holds no time stamps and never looks stale. Where this interpreter
    is of another version, there is none, and the image starts more slowly.
    """
    sources = {path: one for path, one in entries.items() if path.endswith(".py") and isinstance(one, File)}
    if sys.version_info[:2] != VERSION:
        return dict(entries)
    with tempfile.TemporaryDirectory() as folder:
        for path, entry in sources.items():
            place = Path(folder, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(entry.content)
        _compile(folder)
        compiled = sorted(Path(folder).rglob("*.pyc"))
        return {**entries, **{str(path.relative_to(folder)): File(path.read_bytes()) for path in compiled}}


def _compile(folder: str) -> None:
    """Compile a tree in an interpreter of its own.

    What the compiler writes depends on strings that the interpreter has met before; a new one that takes the files in
    order writes the same each time. Sources that do not compile are left out: the standard library has examples.
    """
    how = ("-qq", "-j1", "--invalidation-mode=unchecked-hash", "-s", folder, "-p", "/")
    command = (sys.executable, "-s", "-m", "compileall", *how, folder)
    subprocess.run(command, check=False, env={"PYTHONHASHSEED": "0"}, timeout=900, stdout=subprocess.DEVNULL)
