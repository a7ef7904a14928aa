"""Finds the CDI devices of the NVIDIA Container Toolkit, since a card without one reaches no container.

Driver files and device nodes of a card come from the toolkit's own CDI spec (kind `nvidia.com/gpu`). We only
name that spec's devices, so we must know whether they are there before a card is promised to anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

KIND = "nvidia.com/gpu"
CDI_DIRS = (Path("/etc/cdi"), Path("/var/run/cdi"))
_Version = tuple[int, int, int]
SUFFIXES = frozenset({".json", ".yaml"})
ADVICE = (
    "install the NVIDIA Container Toolkit and run `nvidia-ctk cdi generate --device-name-strategy=index "
    "--device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml`"
)


def device_id(uuid: str) -> str:
    """Return the fully qualified CDI name of a card."""
    return f"{KIND}={uuid}"


@dataclass(frozen=True)
class SpecFile:
    """What one file of a CDI directory says of NVIDIA's cards; `fault` tells why it could not be read."""

    path: Path
    devices: frozenset[str] = frozenset()
    fault: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All of NVIDIA's CDI devices of this node at one moment, and where they were looked for."""

    devices: frozenset[str]
    directories: tuple[Path, ...]
    faults: tuple[str, ...]

    def has(self, uuid: str) -> bool:
        """Tell whether a container can be given this card."""
        return device_id(uuid) in self.devices

    def absence(self, uuid: str) -> str:
        """Tell people why a card has no CDI device, and what to do."""
        places = ", ".join(map(str, self.directories))
        faults = "".join(f"; {fault}" for fault in self.faults)
        return f"no CDI device {device_id(uuid)} in {places}{faults}: {ADVICE}"


class Toolkit:
    """The CDI directories, read again only where a file changed."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)
        self._read: dict[Path, tuple[_Version, SpecFile]] = {}

    def catalogue(self) -> Catalogue:
        """Read what is there now.

        A directory that is missing holds nothing; a broken file hides only itself.
        """
        files = [file for directory in self._directories for file in self._specs(directory)]
        # Specs come and go with every claim, ours among them: what is gone must not stay here.
        present = {file.path for file in files}
        self._read = {path: known for path, known in self._read.items() if path in present}
        return Catalogue(
            devices=frozenset().union(*(file.devices for file in files)),
            directories=self._directories,
            faults=tuple(f"{file.path}: {file.fault}" for file in files if file.fault),
        )

    def has(self, uuid: str) -> bool:
        """Tell whether a container can be given this card now, without a look at every spec of the node.

        A file that named the card and has not changed since names it still. A no is none: ask `catalogue`.
        """
        wanted = device_id(uuid)
        named = [(path, version) for path, (version, file) in list(self._read.items()) if wanted in file.devices]
        return any(_version(path) == version for path, version in named)

    def _specs(self, directory: Path) -> Iterator[SpecFile]:
        try:
            paths = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
        except FileNotFoundError:
            return
        except OSError as error:
            yield SpecFile(directory, fault=error.strerror or "unreadable")
            return
        for path in paths:
            yield self._spec(path)

    def _spec(self, path: Path) -> SpecFile:
        try:
            version = _version(path)
            known = self._read.get(path)
            if known is not None and known[0] == version:
                return known[1]
            if version is None:
                return SpecFile(path)
            spec = parse(path, path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return SpecFile(path, fault=str(error))
        self._read[path] = (version, spec)
        return spec


def _version(path: Path) -> _Version | None:
    """Tell one content of a file from the next; None where there is no file. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def parse(path: Path, content: str) -> SpecFile:
    """Return what a CDI spec says; one of another kind has no devices for us.

    `path` only tells the format, by its suffix, and names the file in the outcome.
    """
    try:
        spec = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        return SpecFile(path, fault=f"not valid {path.suffix.removeprefix('.').upper()} ({reason})")
    if not isinstance(spec, dict) or spec.get("kind") != KIND:
        return SpecFile(path)
    devices = spec.get("devices")
    if not isinstance(devices, list):
        return SpecFile(path, fault="no list of devices")
    names = [device.get("name") for device in devices if isinstance(device, dict)]
    return SpecFile(path, frozenset(device_id(name) for name in names if isinstance(name, str)))
