"""Files and folders that are made before they are needed, so that no Prepare waits for that.

A new inode is what a file system takes longest for: where many were freed lately, as happens on a node where pods come
and go, ext4 passes each of them by before it gives one out. Moving what is there is quick, and puts it in place whole.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drivers.files import make_closed_folder, remove_any

# A pod rarely has more shares, and a burst of pods takes longer to start than to prepare.
NUMBER = 16
# On a disk that is nearly full, what is needed now must not lack what lies ready for later.
_LEAST_FREE = 64 << 20


class Spares:
    """Spare files or folders, all of one make, in a folder of the same file system as where they go."""

    def __init__(self, root: Path, make: Callable[[Path], None], *, number: int) -> None:
        """`make` makes one at a path where nothing is. Raises OSError."""
        self._root = root
        self._make = make
        self._number = number
        self._ready: deque[Path] = deque()

    def open(self) -> None:
        """Make the folder for them, closed to other users, and remove what an earlier process has left in it.

        Another one that lives on it yet loses its spares too, and makes what it needs. Raises OSError.
        """
        make_closed_folder(self._root)
        for left in self._root.iterdir():
            _discard(left)

    def fill(self) -> None:
        """Make as many as there are to be, as long as the disk has room. One caller at a time. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        while len(self._ready) < self._number:
            disk = os.statvfs(self._root)
            if disk.f_bavail * disk.f_frsize < _LEAST_FREE:
                return
            spare = self._root / os.urandom(8).hex()
            self._make(spare)
            self._ready.append(spare)

    def use(self, target: Path, fill_in: Callable[[Path], None]) -> bool:
        """Let `fill_in` complete a spare, and put it in the place of `target`; tells whether that could be done.

        Where none is at hand or the file system refuses, nothing is at `target` that was not there before; who makes
        one there in the ordinary way hears of the reason. Raises what else `fill_in` raises.
        """
        try:
            spare = self._ready.pop()
        except IndexError:
            return False
        try:
            fill_in(spare)
            spare.rename(target)
        except BaseException as error:
            _discard(spare)
            if isinstance(error, OSError):
                return False
            raise
        return True


def _discard(path: Path) -> None:
    """Remove it; what cannot be removed now, the next start tries again."""
    with suppress(OSError):
        remove_any(path)
