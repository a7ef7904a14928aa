"""Which plugins of this node live, and what the dead have left.

Every plugin holds a lock on a file of its own for as long as it lives; the kernel lets go of it when the process
ends, however it ends. The file lists the plugin's sockets, so that who comes later can remove those of the dead: the
kubelet would go on dialling them. And it says since when the plugin serves: the youngest that lives leads, and alone
decides what is published of the cards; two that disagree would else undo each other's work without end.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from dra_driver.errors import SettingsRejected
from drivers.files import name_file

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PREFIX = "instance"
_SERVING = "serving "
# The kubelet's patience with a container that is to end, and a little more.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_ALONE_SECONDS = 1.0


class Presence:
    """This plugin's file, locked. Only within a turn (turns.py) may files of others be judged."""

    def __init__(self, folder: Path, instance: str, descriptor: int) -> None:
        self._folder = folder
        self._path = _path(folder, instance)
        self._descriptor = descriptor
        self._since = 0
        self._alone = False
        self._alone_until = 0.0

    @classmethod
    async def take(cls, folder: Path, instance: str, sockets: Sequence[Path]) -> Presence:
        """Become present under a name (empty: the only one of its kind), waiting for an earlier one to end.

        Raises:
            SettingsRejected: another plugin lives under that name and stays.
            OSError: the file cannot be written.
        """
        path = _path(folder, instance)
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while (descriptor := _lock(path, create=True)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise SettingsRejected(f"another plugin runs on {folder}: two at once need a pod_uid each")
            await asyncio.sleep(_PAUSE_SECONDS)
        os.ftruncate(descriptor, 0)
        presence = cls(folder, instance, descriptor)
        presence._write("".join(f"{socket}\n" for socket in sockets))
        return presence

    def lead(self) -> None:
        """Take the lead from every plugin that serves already. Raises OSError."""
        self._since = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._write(f"{_SERVING}{self._since}\n")

    def leads(self) -> bool:
        """Tell whether no younger plugin serves. Quick; raises OSError."""
        return not any(_since(path) > self._since and _lives(path) for path in self._others())

    def leave(self) -> None:
        """Be present no more. Raises OSError."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def alone(self) -> bool:
        """Tell whether no other plugin lives, as it was a second ago at the earliest. Raises OSError."""
        now = time.monotonic()
        if now > self._alone_until:
            self._alone = not self._others() or self.bury_the_dead()
            self._alone_until = now + _ALONE_SECONDS
        return self._alone

    def bury_the_dead(self) -> bool:
        """Remove what plugins have left that are no more; tells whether this one is alone. Raises OSError."""
        alone = True
        for path in self._others():
            descriptor = _lock(path, create=False)
            if descriptor is None:
                alone = alone and not path.exists()
                continue
            try:
                _remove(path)
            finally:
                os.close(descriptor)
        return alone

    def _write(self, text: str) -> None:
        try:
            os.write(self._descriptor, text.encode())
        except OSError as error:
            name_file(error, self._path)
            raise

    def _others(self) -> list[Path]:
        return [path for path in self._folder.glob(f"{_PREFIX}*.lock") if path != self._path]


def _since(path: Path) -> int:
    """Tell since when a plugin serves (CLOCK_BOOTTIME, nanoseconds); 0 for one that does not yet, or is gone."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return 0
    stamps = [line.removeprefix(_SERVING) for line in lines if line.startswith(_SERVING)]
    return max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)


def _lives(path: Path) -> bool:
    descriptor = _lock(path, create=False)
    if descriptor is None:
        return path.exists()
    os.close(descriptor)
    return False


def _remove(path: Path) -> None:
    sockets = [Path(line) for line in path.read_text(errors="replace").splitlines() if line.startswith("/")]
    for socket in sockets:
        if socket.is_socket():
            socket.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    log.info("dead_plugin_buried", instance=path.name, sockets=[str(socket) for socket in sockets])


def _path(folder: Path, instance: str) -> Path:
    return folder / f"{_PREFIX}{f'-{instance}' if instance else ''}.lock"


def _lock(path: Path, *, create: bool) -> int | None:
    """Open and lock a file that is still in its place; None where another has it, or there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    """Tell whether the open file is still the one at the path: who buried it may have been faster."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
