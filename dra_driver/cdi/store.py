"""The folder that the container runtime reads CDI specs from, and our files in it.

The runtime may read the folder at any moment, so files appear and vanish whole. Other tools keep their specs
in the same folder: only files that carry our prefix are ever touched.
"""

from __future__ import annotations

import json
from pathlib import Path

from dra_driver.cdi.spec import Spec
from drivers.files import sync_folder, write_whole


class CdiStore:
    """Specs of one driver in one folder, each under a name of its own."""

    def __init__(self, folder: Path, *, driver: str) -> None:
        self._folder = folder
        self._prefix = f"{driver}-"

    def write(self, name: str, spec: Spec) -> None:
        """Put a spec in place, replacing an earlier one of that name. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(spec.to_json(), indent=2).encode() + b"\n"
        write_whole(self.path(name), content, mode=0o644)

    def exists(self, name: str) -> bool:
        """Tell whether there is a spec of that name."""
        return self.path(name).is_file()

    def remove(self, name: str) -> None:
        """Remove a spec; one that is not there is a success. Raises OSError."""
        try:
            self.path(name).unlink()
        except FileNotFoundError:
            return
        sync_folder(self._folder)

    def names(self) -> set[str]:
        """List the names of our specs."""
        if not self._folder.is_dir():
            return set()
        files = self._folder.glob(f"{self._prefix}*.json")
        return {file.name.removeprefix(self._prefix).removesuffix(".json") for file in files}

    def path(self, name: str) -> Path:
        """Tell where a spec of that name lies."""
        return self._folder / f"{self._prefix}{name}.json"
