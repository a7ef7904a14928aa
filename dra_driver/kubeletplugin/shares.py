"""The folders of the shares on the host: limits that the container reads, accounting that it writes.

The folder above all shares is closed to everybody but root; a share's files become visible in its containers
through their mounts alone.
"""

from __future__ import annotations

from pathlib import Path

from dra_driver.kubeletplugin.spares import NUMBER, Spares
from drivers.errors import ShareFileUnusable
from drivers.files import make_closed_folder, remove_folder
from drivers.shim_contract import (
    Limits,
    create_usage,
    fill_spare_limits,
    fill_spare_usage,
    make_spare_limits,
    read_limits,
    read_usage,
    write_limits,
)


class ShareFolders:
    """All share folders below the plugin's state folder."""

    def __init__(self, state: Path, *, spares: int = NUMBER) -> None:
        self._root = state / "shares"
        self.spares = Spares(state / "spare" / "shares", _make_spare, number=spares)

    def open(self) -> None:
        """Make the root folder, closed to other users. Raises OSError."""
        make_closed_folder(self._root)
        self.spares.open()

    def make(self, limits: Limits, *, fresh: bool) -> Path:
        """Make a share's folder with its two files and return it.

        The accounting of a share may be in use (a claim is prepared again while its pod runs), so it is kept
        unless `fresh` says that no process of it can live any more.

        Raises:
            ShareFileUnusable: a file of the share is there and breaks the contract.
            OSError: the folder cannot be written.
        """
        folder = self.path(limits.share_key)
        if fresh:
            self.remove(limits.share_key)
        if not folder.exists() and self.spares.use(folder, lambda spare: _fill_in(spare, limits)):
            return folder
        folder.mkdir(exist_ok=True, mode=0o700)
        write_limits(folder / "limits", limits)
        create_usage(folder / "usage", limits.share_key)
        return folder

    def exists(self, key: str) -> bool:
        """Tell whether a share's two files are there."""
        folder = self.path(key)
        return (folder / "limits").is_file() and (folder / "usage").is_file()

    def remove(self, key: str) -> None:
        """Remove a share's folder; one that is not there is a success. Raises OSError."""
        remove_folder(self.path(key))

    def keys(self) -> set[str]:
        """List the shares that have a folder."""
        return {entry.name for entry in self._root.iterdir() if entry.is_dir()}

    def limits(self, key: str) -> Limits | None:
        """Read a share's limits; None where they cannot be read."""
        try:
            return read_limits(self.path(key) / "limits")
        except (OSError, ShareFileUnusable):
            return None

    def in_use(self, key: str) -> bool:
        """Tell whether a process of the share lives, which the kernel knows whatever the tenant has written.

        What cannot be told is taken for a yes.
        """
        try:
            return any(process.alive for process in read_usage(self.path(key) / "usage").processes)
        except ShareFileUnusable:
            return (self.path(key) / "usage").exists()

    def path(self, key: str) -> Path:
        """Tell where a share's folder lies."""
        return self._root / key


def _make_spare(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    make_spare_limits(folder / "limits")
    create_usage(folder / "usage", "")


def _fill_in(folder: Path, limits: Limits) -> None:
    fill_spare_limits(folder / "limits", limits)
    fill_spare_usage(folder / "usage", limits.share_key)
