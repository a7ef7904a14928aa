"""What calls leave to be done behind them: soon, together, and beside the calls.

Bringing to the disk what was recorded without waiting for it, and making anew what was used up. A failure is told and
tried again; no call fails for it: what is not on the disk yet is what a boot makes void, and what is not made
beforehand is made when it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Long enough for the calls of a pod to be over, short beside the start of a container.
_DELAY_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


class Afterwards:
    """One task, from `run`."""

    def __init__(self, works: Mapping[str, Callable[[], None]]) -> None:
        """`works`: what is to be done, by the event that is logged where it fails. They block, and raise OSError."""
        self._works = works
        self._due = asyncio.Event()

    def note(self) -> None:
        """Hear that there is something to do. On the event loop; does not block."""
        self._due.set()

    async def run(self) -> None:
        """Do it until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await self._due.wait()
            await asyncio.sleep(_DELAY_SECONDS)
            self._due.clear()
            failures = await asyncio.to_thread(self._work)
            for event, error in failures.items():
                log.error(event, error=str(error), retry_seconds=pause)
            if not failures:
                pause = _FIRST_PAUSE_SECONDS
                continue
            self._due.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _work(self) -> dict[str, OSError]:
        failures = {}
        for event, work in self._works.items():
            try:
                work()
            except OSError as error:
                failures[event] = error
        return failures
