"""Keeps a share's usage file at its size, because its tenant may write it, and so make it as large as the disk.

Nothing that a file system offers everywhere caps a single file. So the files are looked at every second, as the kubelet
looks at volumes with a size limit, and what lies beyond the size of the format is cut off: no process of the share has
any use for it, and the locks on bytes beyond the end stay.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import structlog

from dra_driver.kubeletplugin.shares import ShareFolders
from drivers.shim_contract import USAGE_SIZE

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PAUSE_SECONDS = 1.0
# What a file system may need for its own records of so small a file.
_SLACK_BYTES = 256 * 1024
_BLOCK = 512


class Overgrowth:
    """Looks at the usage files of all shares."""

    def __init__(self, folders: ShareFolders) -> None:
        self._folders = folders

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(_PAUSE_SECONDS)

    def look(self) -> None:
        """Cut every file that has grown; one that cannot be cut is told of and does not stop the others."""
        for key in sorted(self._folders.keys()):
            try:
                cut = _cut(self._folders.path(key) / "usage")
            except FileNotFoundError:
                continue  # its claim has gone meanwhile
            except OSError as error:
                log.error("usage_file_not_cut", share=key, error=str(error))
                continue
            if cut:
                log.warning("usage_file_cut", share=key, bytes=cut)


def _cut(path: Path) -> int:
    """Bring a file back to its size; returns how many bytes it had too many. Raises OSError."""
    if not _beyond(os.lstat(path)):
        return 0
    # The tenant cannot put anything else in its place; what else may have happened to it is not followed.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        beyond = _beyond(os.fstat(descriptor))
        if beyond:
            os.ftruncate(descriptor, USAGE_SIZE)
        return beyond
    finally:
        os.close(descriptor)


def _beyond(status: os.stat_result) -> int:
    """Tell how much of a file lies beyond its size, seen or only reserved on the disk; 0 for what is no file."""
    if not stat.S_ISREG(status.st_mode):
        return 0
    reserved = status.st_blocks * _BLOCK - USAGE_SIZE
    return max(0, status.st_size - USAGE_SIZE, reserved if reserved > _SLACK_BYTES else 0)
