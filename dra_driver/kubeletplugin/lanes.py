"""How many threads work on claims at once: few while they are quick, more as soon as one is held up.

Such work is short calls of the kernel with some Python between them, and Python runs in one thread at a time: a dozen
threads that take it from each other at every call are slower than two that do the same one after the other. But a
vendor's library or a disk may hold a thread for seconds, and nobody else must wait for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_LANES = 2
# Many times what the work takes that nothing holds up.
_HELD_UP_SECONDS = 0.02


class Lanes:
    """Runs blocking work in threads."""

    def __init__(self, *, lanes: int = _LANES, held_up_seconds: float = _HELD_UP_SECONDS) -> None:
        self._free = asyncio.Semaphore(lanes)
        self._held_up_seconds = held_up_seconds

    async def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run work in a thread and return what it returns; raises what it raises."""
        taken = await self._enter()
        try:
            return await asyncio.to_thread(work, *arguments, **named)
        finally:
            if taken:
                self._free.release()

    async def _enter(self) -> bool:
        """Take a lane; not for ever: who has waited too long goes beside those that are held up."""
        if not self._free.locked():
            return await self._free.acquire()
        try:
            async with asyncio.timeout(self._held_up_seconds):
                return await self._free.acquire()
        except TimeoutError:
            return False
