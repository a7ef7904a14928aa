"""Keeps what is known of the cards true: looks at them again and again, and at once when something is heard of one.

A backend that hears of faults by itself does so in a thread of its own, for vendors' libraries block. What it tells is
taken into the book there, and only the wish to look again crosses into the event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog

from dra_driver.kubeletplugin.faults import FaultBook
from dra_driver.kubeletplugin.inventory import Inventory
from drivers.backend import DeviceBackend, Notice, WatchesHealth

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_JOIN_SECONDS = 5.0
_RESTART_SECONDS = 30.0


class CardWatch:
    """Looks at the cards; `changed` are told, on the event loop, when something is other than before."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        faults: FaultBook,
        backends: Mapping[str, DeviceBackend],
        scan_seconds: float,
        changed: Sequence[Callable[[], None]],
        noticed: Callable[[Notice], None] = lambda _notice: None,
    ) -> None:
        """`noticed` hears, in the backend's thread, what a backend has heard of that is news."""
        self._noticed = noticed
        self._inventory = inventory
        self._faults = faults
        self._backends = backends
        self._scan_seconds = scan_seconds
        self._changed = changed
        self._due = asyncio.Event()
        self._stop = threading.Event()

    def look_soon(self) -> None:
        """Look before the time has come; to be called on the event loop."""
        self._due.set()

    async def run(self) -> None:
        """Look until cancelled."""
        async with self._listening(asyncio.get_running_loop()):
            while True:
                try:
                    async with asyncio.timeout(self._scan_seconds):
                        await self._due.wait()
                except TimeoutError:
                    pass
                self._due.clear()
                if await asyncio.to_thread(self._inventory.look):
                    self.tell()

    def tell(self) -> None:
        """Tell everybody that something may be other than before."""
        for tell in self._changed:
            tell()

    @asynccontextmanager
    async def _listening(self, loop: asyncio.AbstractEventLoop) -> AsyncIterator[None]:
        threads = [
            threading.Thread(target=self._listen, args=(vendor, backend, loop), name=f"health-{vendor}", daemon=True)
            for vendor, backend in self._backends.items()
            if isinstance(backend, WatchesHealth)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                # Not on the event loop: calls in flight are to be finished meanwhile.
                await asyncio.to_thread(thread.join, _JOIN_SECONDS)
                if thread.is_alive():
                    log.error("health_watch_stuck", vendor=thread.name.removeprefix("health-"))

    def _listen(self, vendor: str, backend: WatchesHealth, loop: asyncio.AbstractEventLoop) -> None:
        """Run a backend's watch, again when it fails: a fault of the watch is no fault of the cards."""

        def tell(notice: Notice) -> None:
            if self._faults.take(notice):
                self._noticed(notice)
            loop.call_soon_threadsafe(self._due.set)

        while not self._stop.is_set():
            try:
                backend.watch_health(tell, self._stop.is_set)
            except Exception as error:  # noqa: BLE001 - whatever a vendor's library does, the cards stay published
                log.error("health_watch_failed", vendor=vendor, error=str(error), retry_seconds=_RESTART_SECONDS)
                self._stop.wait(_RESTART_SECONDS)
