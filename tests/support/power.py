"""A disk that remembers what would outlive a power cut, and can be put back to that.

Nothing is believed of a file system but what it promises: the content of a file is there as it was when the file was
last synced, a folder has the entries that it had when the folder was last synced. Whatever was done since may be there
or not, each on its own, and a file whose content was not synced may be empty or full of zeros.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any
from unittest import mock


class Loss(Enum):
    """What a power cut leaves of what was not synced."""

    NOTHING = auto()
    """It was all written, in time."""
    ALL = auto()
    """Everything is as it was when it was last synced; what is on a tmpfs is gone."""
    CONTENTS = auto()
    """Files and folders are there, but what was not synced is zeros."""
    SIZES = auto()
    """The same, but such files are empty."""
    RECORDS = auto()
    """The plugin's own folder is as it was last synced, and everything else has been written."""
    EFFECTS = auto()
    """The plugin's own folder was written, and everything else is as it was last synced."""


@dataclass
class Disk:
    """What is durable below some folders: contents of files by inode, entries of folders by inode.

    `plugin` has the records, `others` the effects; `volatile` is on a tmpfs.
    """

    plugin: Path
    others: Path
    volatile: Path
    _contents: dict[int, bytes] = field(default_factory=dict)
    _entries: dict[int, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for root in (self.plugin, self.others):
            for path in (root, *root.rglob("*")):
                self._note(path)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notice what is synced."""
        with ExitStack() as stack:
            for name in ("fsync", "fdatasync"):
                stack.enter_context(mock.patch.object(os, name, self._synced(getattr(os, name))))
            yield

    def lose(self, loss: Loss) -> None:
        """Let the power fail."""
        if loss in (Loss.ALL, Loss.RECORDS):
            self._put_back(self.plugin)
        if loss in (Loss.ALL, Loss.EFFECTS):
            self._put_back(self.others)
            for path in self.volatile.iterdir():
                path.unlink()
        if loss in (Loss.CONTENTS, Loss.SIZES):
            for root in (self.plugin, self.others, self.volatile):
                self._spoil(root, keep_size=loss is Loss.CONTENTS)

    def _synced(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int, *_: Any) -> None:
            real(descriptor)
            self._note(Path(f"/proc/self/fd/{descriptor}").readlink())

        return call

    def _note(self, path: Path) -> None:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            self._entries[status.st_ino] = {entry.name: entry.lstat().st_ino for entry in path.iterdir()}
        else:
            self._contents[status.st_ino] = path.read_bytes()

    def _put_back(self, root: Path) -> None:
        inode = root.stat().st_ino
        for path in root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._fill(root, self._entries.get(inode, {}))
        self._entries[root.stat().st_ino] = {entry.name: entry.stat().st_ino for entry in root.iterdir()}

    def _fill(self, folder: Path, entries: dict[str, int]) -> None:
        for name, inode in entries.items():
            path = folder / name
            if inode in self._entries:
                path.mkdir()
                self._fill(path, self._entries[inode])
            else:
                path.write_bytes(self._contents.get(inode, b""))
            self._note(path)

    def _spoil(self, root: Path, *, keep_size: bool) -> None:
        for path in (one for one in root.rglob("*") if one.is_file()):
            status = path.stat()
            durable = self._contents.get(status.st_ino)
            if durable is None:
                path.write_bytes(bytes(status.st_size) if keep_size else b"")
            elif durable != path.read_bytes():
                path.write_bytes(durable)
