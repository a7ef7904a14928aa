"""What calls leave to be done is done soon, once for all of them, and what fails is tried again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from structlog.testing import capture_logs

from dra_driver.kubeletplugin.afterwards import Afterwards


class Disk:
    """Counts what is asked of it, and fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.asked: asyncio.Queue[int] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self._number = 0

    def work(self) -> None:
        self._number += 1
        self._loop.call_soon_threadsafe(self.asked.put_nowait, self._number)
        if self._number <= self._failures:
            raise OSError(5, "Input/output error")


@contextlib.asynccontextmanager
async def running(**disks: Disk) -> AsyncIterator[Afterwards]:
    afterwards = Afterwards({name: disk.work for name, disk in disks.items()})
    task = asyncio.create_task(afterwards.run())
    try:
        async with asyncio.timeout(30):
            yield afterwards
    finally:
        task.cancel()


async def test_what_comes_together_is_done_at_once() -> None:
    async with running(failed=(disk := Disk())) as afterwards:
        for _ in range(5):
            afterwards.note()
        assert await disk.asked.get() == 1
        afterwards.note()
        assert await disk.asked.get() == 2
        assert disk.asked.empty()


async def test_what_fails_is_told_and_tried_again_and_keeps_nothing_else_from_being_done() -> None:
    with capture_logs() as logs:
        async with running(not_synced=(first := Disk(failures=1)), not_made=(second := Disk())) as afterwards:
            afterwards.note()
            assert [await first.asked.get(), await first.asked.get()] == [1, 2]
            assert await second.asked.get() == 1
    assert [(one["event"], one["error"]) for one in logs] == [("not_synced", "[Errno 5] Input/output error")]
