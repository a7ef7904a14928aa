"""The lowest layer: a small Debian with Python, or a base of the user's own."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.image.debian import Package, PackageIndex, entries
from tools.image.entries import File, Folder, Link, layer
from tools.image.errors import ImageError
from tools.image.oci import ARCHITECTURES, Layer
from tools.image.python import with_bytecode

PACKAGES_FILE = Path(__file__).with_name("packages.txt")
# Parts of Python's library that a program without a screen and without a compiler has no use for, and tables of
# character sets.
_HEAVY = tuple(
    f"usr/lib/python3.11/{part}/"
    for part in (
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "distutils",
        "unittest",
        "test",
    )
)
# Folders for people and their groups, and helpers of a debugger.
_NOT_FOR_A_CONTAINER = ("home", "media", "mnt", "root", "srv", "var/local", "var/lock", "var/mail", "usr/share/gcc/")
# No user of Debian's own: root's and the one that the controller runs as.
_PASSWD = b"root:x:0:0:root:/root:/sbin/nologin\nhami-dra:x:65532:65532:hami-dra:/:/sbin/nologin\n"


@dataclass(frozen=True)
class Base:
    """What an image is built upon."""

    layers: tuple[Layer, ...]
    packages: tuple[Package, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def package_names(file: Path = PACKAGES_FILE) -> list[str]:
    """The Debian packages that a file names, one a line."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def debian(index: PackageIndex) -> Base:
    """A Debian of the packages in packages.txt alone. Raises ImageError where they cannot be had."""
    packages = index.fetch(package_names())
    found = {path: entry for path, entry in entries(packages).items() if not _is_heavy(path)}
    found |= {f"var/lib/dpkg/status.d/{one.name}": File(one.control()) for one in packages}
    found |= {
        "etc/nsswitch.conf": File(b"passwd: files\ngroup: files\nhosts: files dns\n"),
        "etc/passwd": File(_PASSWD),
        "etc/group": File(b"root:x:0:\nhami-dra:x:65532:\n"),
        "tmp": Folder(0o1777),
        "usr/bin/python3": Link("python3.11"),
    }
    return Base((Layer.compressed(layer(with_bytecode(found))),), tuple(packages))


def _is_heavy(path: str) -> bool:
    return path.startswith((*_HEAVY, *_NOT_FOR_A_CONTAINER)) or "/gconv/" in path or "/config-3.11-" in path


def own(archive: Path, architecture: str) -> Base:
    """The image of an OCI archive or folder, as skopeo or a build tool writes it. Raises ImageError.

    It must have Python 3.11 as /usr/bin/python3.11.
    """
    read = _reader(archive)
    try:
        manifest = _manifest(read, json.loads(read("index.json")), ARCHITECTURES[architecture])
        config = json.loads(read(_blob(manifest["config"])))
        pairs = zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        layers = tuple(Layer(read(_blob(one)), diff_id, one["mediaType"]) for one, diff_id in pairs)
        variables = (word.partition("=") for word in config.get("config", {}).get("Env") or ())
        return Base(layers, environment={name: value for name, _, value in variables})
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(f"{archive}: not an OCI image for {architecture}: {error!r}") from error


def _reader(archive: Path) -> Callable[[str], bytes]:
    if archive.is_dir():
        return lambda name: (archive / name).read_bytes()
    try:
        tar = tarfile.open(fileobj=io.BytesIO(archive.read_bytes()))  # noqa: SIM115 - open while the image is built
    except (OSError, tarfile.TarError) as error:
        raise ImageError(f"{archive}: cannot be read as an OCI archive: {error}") from error

    def read(name: str) -> bytes:
        file = tar.extractfile(name)
        if file is None:
            raise KeyError(name)
        return file.read()

    return read


def _manifest(read: Callable[[str], bytes], index: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    for one in index["manifests"]:
        if "index" in one["mediaType"] or "list" in one["mediaType"]:
            return _manifest(read, json.loads(read(_blob(one))), architecture)
        if one.get("platform", {}).get("architecture", architecture) == architecture:
            found: dict[str, Any] = json.loads(read(_blob(one)))
            return found
    raise ValueError(f"no manifest for {architecture}")


def _blob(descriptor: Mapping[str, Any]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"
