"""Cuts a process off, or lets its disk fail, at one chosen call of all that it makes.

Every call that changes the disk, every request to the API server and every call of a vendor is a point. A first run
counts them; then each is cut in a run of its own, so that all are tried and none is left to luck. From the cut on
every further call dies too: nothing of a dead process runs any more, not even its clean-up.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from typing import Any
from unittest import mock

from drivers.model import Share
from tests.support.node import Crash, MemoryNode

CHANGES = (
    "chmod",
    "fchmod",
    "fdatasync",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "open",
    "posix_fallocate",
    "pwrite",
    "remove",
    "rename",
    "replace",
    "rmdir",
    "symlink",
    "truncate",
    "unlink",
    "write",
    "writev",
)
_WRITES = ("write", "pwrite")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Way(Enum):
    """How it ends at the point."""

    CRASH = auto()
    TORN = auto()
    """As CRASH, but of a write the first half arrives."""
    KILL = auto()
    """The real thing: SIGKILL to this process."""
    FULL = auto()
    """The call fails with ENOSPC, and the process goes on."""


class Cut:
    """Counts points, and cuts at the one numbered `at` (from 1); 0 never cuts."""

    def __init__(self, at: int = 0, way: Way = Way.CRASH) -> None:
        self.points: list[str] = []
        self._at = at
        self._way = way
        self._dead = False
        self._lock = threading.Lock()

    @contextmanager
    def on(self, node: MemoryNode) -> Iterator[None]:
        """Watch all calls of this process and of the node's twins."""
        with ExitStack() as stack:
            for name in CHANGES:
                stack.enter_context(mock.patch.object(os, name, self._watched(name, getattr(os, name))))
            request = node.api.request

            async def asked(*arguments: Any, **named: Any) -> Any:
                self._pass(f"api {arguments[0]}", lambda: None, ())
                return await request(*arguments, **named)

            stack.enter_context(mock.patch.object(node.api, "request", asked))
            stack.enter_context(mock.patch.object(node.backend, "on_prepare", self._prepare))
            stack.enter_context(mock.patch.object(node.backend, "on_unprepare", self._unprepare))
            yield

    def _prepare(self, share: Share) -> None:
        self._pass(f"prepare {share.device.name}", lambda: None, ())

    def _unprepare(self, _key: str) -> None:
        self._pass("unprepare", lambda: None, ())

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & _WRITING:
                return real(*arguments, **named)
            return self._pass(name, real, arguments, **named)

        return call

    def _pass(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], **named: Any) -> Any:
        with self._lock:
            if self._dead:
                raise Crash
            self.points.append(name)
            if len(self.points) == self._at:
                self._end(name, real, arguments)
        return real(*arguments, **named)

    def _end(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self._way is Way.FULL:
            raise OSError(errno.ENOSPC, "No space left on device")
        if self._way is Way.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        self._dead = True
        if self._way is Way.TORN and name in _WRITES:
            real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
        raise Crash
