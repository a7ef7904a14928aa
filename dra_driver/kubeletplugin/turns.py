"""Turns between the plugins of one node, of which an update lets two run side by side for a while.

All calls of one process share one turn; the turns of different processes exclude each other by a lock on a file,
which the kernel gives back when its holder dies. Who waits for it holds a second lock, which everybody takes first:
so a process whose calls overlap without end cannot be first again before the one that waits. Who gains a turn first
reads what another has written meanwhile.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FILE_NAME = "serialize.lock"
_NEXT_NAME = "serialize-next.lock"
# A process whose calls overlap without end still lets go after this long, once those in flight are done.
_LONGEST_TURN_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.01
_TELL_AFTER_SECONDS = 5.0


class Turns:
    """This process's turns at the state in one folder."""

    def __init__(self, folder: Path, *, on_gained: Callable[[], None] = lambda: None) -> None:
        """`on_gained` is called whenever the lock was taken, before anybody goes on. Raises OSError."""
        self._lock = _open(folder / FILE_NAME)
        self._next = _open(folder / _NEXT_NAME)
        self.on_gained = on_gained
        self._inside = 0
        self._since = 0.0
        self._entering = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()

    def close(self) -> None:
        """Let go of the files, and of the locks on them."""
        os.close(self._lock)
        os.close(self._next)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold this process's turn. Never enter it twice in one task. Raises what `on_gained` raises."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        async with self._entering:
            now = asyncio.get_running_loop().time()
            if self._inside and now - self._since > _LONGEST_TURN_SECONDS:
                await self._empty.wait()
            if not self._inside:
                await self._gain()
            self._inside += 1
            self._empty.clear()

    async def _gain(self) -> None:
        await _locked(self._next)
        try:
            await _locked(self._lock)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        self._since = asyncio.get_running_loop().time()
        try:
            self.on_gained()
        except BaseException:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            raise

    def _leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._empty.set()


async def _locked(descriptor: int) -> None:
    """Wait for a lock; not in a thread, so that a call that is given up waits no longer."""
    loop = asyncio.get_running_loop()
    begun, pause, told = loop.time(), _FIRST_PAUSE_SECONDS, False
    while not _try_lock(descriptor):
        if not told and loop.time() - begun > _TELL_AFTER_SECONDS:
            log.warning("waiting_for_other_plugin", waited_seconds=round(loop.time() - begun, 1))
            told = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
