"""Brings to the disk what calls have recorded without waiting for it: soon, together, and beside the calls.

A failure is told and tried again; no call fails for it, since what is not on the disk yet is what a boot makes void.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Long enough for the calls of a pod to be synced at once, short beside the start of a container.
_DELAY_SECONDS = 0.01
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


class KeepsUp(Protocol):
    """What has records that are not durable yet."""

    def keep_up(self) -> None:
        """Make them durable. Blocks. Raises OSError."""
        ...


class Syncing:
    """One task, from `run`."""

    def __init__(self, checkpoint: KeepsUp) -> None:
        self._checkpoint = checkpoint
        self._due = asyncio.Event()

    def note(self) -> None:
        """Hear that something was recorded. On the event loop; does not block."""
        self._due.set()

    async def run(self) -> None:
        """Sync until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await self._due.wait()
            await asyncio.sleep(_DELAY_SECONDS)
            self._due.clear()
            try:
                await asyncio.to_thread(self._checkpoint.keep_up)
                pause = _FIRST_PAUSE_SECONDS
            except OSError as error:
                log.error("checkpoint_not_synced", error=str(error), retry_seconds=pause)
                self._due.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
