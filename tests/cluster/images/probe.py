"""The image that tests and the demo run: a small Debian with Python and the accelerators' usual clients.

Two layers. The lower one (Debian, Python, clients) is large and changes when a version does; the upper one
holds the programs of images/programs/ and what a caller adds, and changes every day.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.errors import ImageError
from tests.cluster.images import wheels
from tests.cluster.images.recipe import recipe_hash
from tests.cluster.paths import cache_folder
from tools.image import debian, oci
from tools.image.base import package_names
from tools.image.entries import Entry, File, Folder, Link, layer
from tools.image.errors import ImageError as CannotBeBuilt
from tools.image.python import SITE, with_bytecode
from tools.image.python import VERSION as PYTHON

IMAGE = "hami-dra.test/probe:1"
CLIENTS = ("cuda-bindings", "nvidia-ml-py", "nvitop")
PROGRAMS = Path(__file__).with_name("programs")
PACKAGES_FILE = Path(__file__).with_name("probe-packages.txt")
# No test needs these parts of the standard library; they are most of its weight.
HEAVY = ("idlelib/", "lib2to3/", "pydoc_data/", "tkinter/", "turtledemo/", "ensurepip/")
KEPT_ARCHIVES = 4
SHARED_MODULES = ("debian.py", "entries.py", "oci.py", "python.py")


def archive(extra: Mapping[str, Path] | None = None) -> Path:
    """The image's archive, from the cache where nothing changed since it was built.

    `extra` adds files: the absolute path in the image → the file on this machine; an executable stays one.
    Raises ImageError where packages cannot be had or a file is missing.
    """
    programs = layer(_programs(extra or {}))
    base = _base_layer()
    folder = cache_folder() / "images"
    target = folder / f"probe-{recipe_hash(base.name, programs, _sources())}.tar"
    if not target.exists():
        layers = [oci.Layer.plain(base.read_bytes()), oci.Layer.plain(programs)]
        environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        oci.write(target, IMAGE, [oci.Image(platform.machine(), layers, command=["sh"], environment=environment)])
        _forget_old(folder, "probe-*.tar")
    return target


def _base_layer() -> Path:
    if sys.version_info[:2] != PYTHON:
        raise ImageError(
            f"the probe image takes clients for Python {PYTHON[0]}.{PYTHON[1]} from this environment, which has"
            f" {sys.version_info[0]}.{sys.version_info[1]}"
        )
    key = recipe_hash(" ".join(package_names(PACKAGES_FILE)), wheels.versions(CLIENTS), platform.machine(), _sources())
    target = cache_folder() / "images" / f"base-{key}.layer"
    if not target.exists():
        content = layer(_base_entries())
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".base-", delete=False) as fresh:
            fresh.write(content)
        Path(fresh.name).replace(target)
        _forget_old(target.parent, "base-*.layer")
    return target


def _sources() -> str:
    """The code that puts the image together is part of its recipe."""
    modules = (Path(__file__), Path(wheels.__file__), *(Path(oci.__file__).with_name(name) for name in SHARED_MODULES))
    return recipe_hash(*(module.read_bytes() for module in modules))


def _base_entries() -> dict[str, Entry]:
    found = {path: entry for path, entry in _user_land().items() if not _is_heavy(path)}
    found = _applets(found) | found
    found |= wheels.entries(CLIENTS, SITE)
    found |= {
        "etc/group": File(b"root:x:0:\nnogroup:x:65534:\n"),
        "etc/ld.so.conf": File(b"include /etc/ld.so.conf.d/*.conf\n"),
        "etc/nsswitch.conf": File(b"passwd: files\ngroup: files\nhosts: files dns\n"),
        "etc/passwd": File(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
        "root": Folder(0o700),
        "tmp": Folder(0o1777),
        "usr/bin/nvitop": File(b'#!/bin/sh\nexec python3 -m nvitop "$@"\n', 0o755),
        "usr/bin/python3": Link("python3.11"),
        "var/tmp": Folder(0o1777),
    }
    found |= {name: Folder() for name in ("dev", "home", "proc", "run", "sys", "var/log", "usr/local/bin")}
    return with_bytecode(found)


def _user_land() -> dict[str, Entry]:
    index = debian.PackageIndex(cache_folder() / "debian", platform.machine())
    try:
        return debian.entries(index.fetch(package_names(PACKAGES_FILE)), without=(*debian.NOT_NEEDED, "usr/share/doc/"))
    except CannotBeBuilt as failed:
        raise ImageError(f"the packages of the probe image could not be fetched: {failed}") from failed


def _is_heavy(path: str) -> bool:
    inside = path.partition("usr/lib/python3.11/")[2]
    return inside.startswith(HEAVY) or "/test/" in inside or "/gconv/" in path


def _applets(files: Mapping[str, Entry]) -> dict[str, Entry]:
    """The links by which busybox is a shell and the usual small commands."""
    busybox = files["usr/bin/busybox"]
    assert isinstance(busybox, File)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "busybox"
        program.write_bytes(busybox.content)
        program.chmod(0o755)
        listed = subprocess.run((str(program), "--list"), capture_output=True, text=True, check=True)
    return {f"usr/bin/{name}": Link("busybox") for name in listed.stdout.split() if name != "busybox"}


def _programs(extra: Mapping[str, Path]) -> dict[str, Entry]:
    sources = {
        f"/usr/local/bin/{path.relative_to(PROGRAMS)}": path
        for path in PROGRAMS.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found: dict[str, Entry] = {}
    for place, source in {**sources, **extra}.items():
        if not place.startswith("/"):
            raise ImageError(f"{place}: the path of a file in the image starts with /")
        try:
            mode = 0o755 if source.stat().st_mode & 0o111 else 0o644
            found[place.lstrip("/")] = File(source.read_bytes(), mode)
        except OSError as absent:
            raise ImageError(f"the file for {place} cannot be read: {absent}") from absent
    return found


def _forget_old(folder: Path, pattern: str) -> None:
    by_age = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[KEPT_ARCHIVES:]:
        path.unlink(missing_ok=True)
