"""What calls have not waited for reaches the disk soon, and a disk that fails is tried again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from structlog.testing import capture_logs

from dra_driver.kubeletplugin.syncing import Syncing


class Disk:
    """Counts what is asked of it, and fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.syncs: asyncio.Queue[int] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self._asked = 0

    def keep_up(self) -> None:
        self._asked += 1
        self._loop.call_soon_threadsafe(self.syncs.put_nowait, self._asked)
        if self._asked <= self._failures:
            raise OSError(5, "Input/output error")


@contextlib.asynccontextmanager
async def running(disk: Disk) -> AsyncIterator[Syncing]:
    syncing = Syncing(disk)
    task = asyncio.create_task(syncing.run())
    try:
        async with asyncio.timeout(30):
            yield syncing
    finally:
        task.cancel()


async def test_what_comes_together_is_synced_at_once() -> None:
    async with running(disk := Disk()) as syncing:
        for _ in range(5):
            syncing.note()
        assert await disk.syncs.get() == 1
        syncing.note()
        assert await disk.syncs.get() == 2
        assert disk.syncs.empty()


async def test_a_sync_that_fails_is_told_and_tried_again() -> None:
    with capture_logs() as logs:
        async with running(disk := Disk(failures=1)) as syncing:
            syncing.note()
            assert [await disk.syncs.get(), await disk.syncs.get()] == [1, 2]
    assert [one["error"] for one in logs if one["event"] == "checkpoint_not_synced"] == ["[Errno 5] Input/output error"]
