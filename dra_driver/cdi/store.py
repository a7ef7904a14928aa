"""The folder that the container runtime reads CDI specs from, and our files in it.

The runtime may read the folder at any moment, so files appear and vanish whole. Other tools keep their specs
in the same folder: only files that carry our prefix are ever touched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dra_driver.cdi.spec import Spec
from drivers.files import remove_whole, write_whole


class CdiStore:
    """Specs of one driver in one folder, each under a name of its own."""

    def __init__(self, folder: Path, *, driver: str) -> None:
        self._folder = folder
        self._prefix = f"{driver}-"

    def write(self, name: str, spec: Spec) -> None:
        """Put a spec in place, replacing an earlier one of that name. Raises OSError.

        Not synced: after a power cut a claim is prepared anew, and the folder is usually empty after a boot.
        """
        content = json.dumps(spec.to_json()).encode() + b"\n"
        try:
            write_whole(self.path(name), content, mode=0o644, durable=False)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.path(name), content, mode=0o644, durable=False)

    def exists(self, name: str) -> bool:
        """Tell whether there is a spec of that name."""
        return self.path(name).is_file()

    def annotation(self, name: str, key: str) -> str | None:
        """Read an annotation of a spec; None where the spec does not say it. Raises OSError."""
        annotations = self._read(name).get("annotations")
        value = annotations.get(key) if isinstance(annotations, dict) else None
        return value if isinstance(value, str) else None

    def devices(self, name: str) -> tuple[str, ...]:
        """List the names of a spec's devices; none where they cannot be read. Raises OSError."""
        devices = self._read(name).get("devices")
        listed = devices if isinstance(devices, list) else []
        named = [device.get("name") for device in listed if isinstance(device, dict)]
        return tuple(device for device in named if isinstance(device, str))

    def remove(self, name: str) -> None:
        """Remove a spec; one that is not there is a success. Raises OSError.

        Not synced: what a power cut brings back is removed by the first start after it.
        """
        remove_whole(self.path(name))

    def sweep_unfinished(self) -> None:
        """Remove what a crash or a power cut has left of specs that were being written. Raises OSError."""
        for path in self._folder.glob(f".{self._prefix}*.json.tmp"):
            path.unlink(missing_ok=True)

    def names(self) -> set[str]:
        """List the names of our specs."""
        if not self._folder.is_dir():
            return set()
        files = self._folder.glob(f"{self._prefix}*.json")
        return {file.name.removeprefix(self._prefix).removesuffix(".json") for file in files}

    def path(self, name: str) -> Path:
        """Tell where a spec of that name lies."""
        return self._folder / f"{self._prefix}{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        """Read what is there as far as it makes sense: a cut or foreign file tells nothing."""
        try:
            wire = json.loads(self.path(name).read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return wire if isinstance(wire, dict) else {}
