"""Watches NVIDIA's cards: takes the driver's reports as they come, and asks whether the cards still answer.

A report is judged here (a program's own fault is none of the card's); how long a fault is held against a card is
decided by whoever is told. What the driver reported before the watch began is looked up in the kernel's log.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Set
from pathlib import Path

import structlog

from drivers.backend import Fault, Notice, Recovery
from drivers.errors import BackendUnavailable, DeviceLost
from drivers.model import LOST
from drivers.nvidia.description import VENDOR
from drivers.nvidia.kernel_log import logged_xids
from drivers.nvidia.nvml import Card, Nvml
from drivers.nvidia.nvml_events import Event, EventSet, Kind
from drivers.nvidia.xids import spell

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

WAIT_MS = 1000


class HealthWatch:
    """One watch over all cards. To be run by one thread."""

    def __init__(self, nvml: Nvml, *, harmless_xids: Set[int], kernel_log: Path, wait_ms: int = WAIT_MS) -> None:
        self._kernel_log = kernel_log
        self._nvml = nvml
        self._harmless = harmless_xids
        self._wait_ms = wait_ms
        self._answering: frozenset[str] = frozenset()
        self._lost: set[str] = set()

    def run(self, tell: Callable[[Notice], None], stopped: Callable[[], bool]) -> None:
        """Watch until stopped; a library that is not there is waited for."""
        while not stopped():
            with contextlib.suppress(BackendUnavailable), self._nvml.reference():
                self._watch(tell, stopped)
            if not stopped():
                time.sleep(self._wait_ms / 1000)

    def _watch(self, tell: Callable[[Notice], None], stopped: Callable[[], bool]) -> None:
        """Watch for as long as the library can be used."""
        self._look(tell)
        events: EventSet | None = EventSet(self._nvml, sorted(self._answering))
        try:
            # Not before the set is there: between the two nothing may be missed, and what is told twice does no harm.
            self._look_back(tell)
            while not stopped():
                if self._look(tell) or events is None:
                    events = self._renewed(events, tell)
                try:
                    self._hear(events, tell)
                except DeviceLost:
                    events.free()
                    events = None
        finally:
            if events is not None:
                events.free()

    def _renewed(self, old: EventSet | None, tell: Callable[[Notice], None]) -> EventSet:
        """Make a set of the cards that answer now, and lose nothing that the old one has heard."""
        new = EventSet(self._nvml, sorted(self._answering))
        if old is not None:
            with contextlib.suppress(DeviceLost):
                for event in old.pending():
                    self._judge(event, tell)
            old.free()
        return new

    def _hear(self, events: EventSet, tell: Callable[[Notice], None]) -> None:
        event = events.wait(self._wait_ms)
        if event is not None:
            self._judge(event, tell)

    def _look(self, tell: Callable[[Notice], None]) -> bool:
        """Tell which cards have gone or come back; returns whether other cards answer than before."""
        answering = self._nvml.answering()
        for uuid in self._answering - answering:
            self._lost.add(uuid)
            tell(Fault(uuid, LOST, "the card does not answer"))
        for uuid in self._lost & answering:
            self._lost.discard(uuid)
            tell(Recovery(uuid))
        changed = answering != self._answering
        self._answering = answering
        return changed

    def _look_back(self, tell: Callable[[Notice], None]) -> None:
        """Tell what the driver has logged of these cards since the boot: whoever is told knows what is over."""
        uuids = {card.pci_bus_id: card.uuid for card in self._nvml.cards() if isinstance(card, Card)}
        for logged in logged_xids(self._kernel_log):
            uuid = uuids.get(logged.pci_bus_id)
            if uuid is not None and logged.number not in self._harmless:
                ago = max(0.0, time.monotonic() - logged.at)
                tell(Fault(uuid, f"xid-{logged.number}", spell(logged.number), seconds_ago=ago))

    def _judge(self, event: Event, tell: Callable[[Notice], None]) -> None:
        uuid = event.device_uuid
        if event.kind is Kind.UNCORRECTED:
            tell(Fault(uuid, "ecc-uncorrected", "a memory error that could not be corrected"))
        elif event.number in self._harmless:
            log.info("xid_of_a_program", vendor=VENDOR, device_uuid=uuid, xid=event.number)
        else:
            tell(Fault(uuid, f"xid-{event.number}", spell(event.number)))
