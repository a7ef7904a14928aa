"""What is to be looked at, and from when on: one entry per claim, the earliest time wins."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

_SLACK = 64


class Due:
    """A queue with times. One task takes, from `next`; anybody on the event loop puts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._when: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._when)

    def put(self, uid: str, when: float) -> None:
        """Look at it at that time, unless it is due earlier."""
        if self._when.get(uid, when + 1) > when:
            self._when[uid] = when
            heapq.heappush(self._heap, (when, uid))
            self._changed.set()

    def drop(self, uid: str) -> None:
        """Look at it no more."""
        self._when.pop(uid, None)
        # Nobody takes on a replica that does not lead, and what was dropped would stay for good.
        if len(self._heap) > 2 * len(self._when) + _SLACK:
            self._heap = [(when, uid) for uid, when in self._when.items()]
            heapq.heapify(self._heap)

    async def next(self) -> str:
        """Wait for what is due first, and take it."""
        while True:
            self._changed.clear()
            while self._heap and self._when.get(self._heap[0][1]) != self._heap[0][0]:
                heapq.heappop(self._heap)
            wait = self._heap[0][0] - self._clock() if self._heap else None
            if wait is not None and wait <= 0:
                uid = heapq.heappop(self._heap)[1]
                del self._when[uid]
                return uid
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue
