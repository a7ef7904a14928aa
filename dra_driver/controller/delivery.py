"""Brings what the watch hears to the observers: from the watch's thread to the event loop that everything else is on.

The order in which things were heard stays. A burst is taken in by turns of a few milliseconds, so that the server for
admission and the Lease, on the same event loop, are served between them.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from dra_driver.controller.metrics import Metrics
from dra_driver.controller.observing import Change, Kind, Observer
from dra_driver.controller.relisting import Existing, Identity, identity_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_TURN_SECONDS = 0.005
# The server ends a watch well before (operator.py), and then it is begun anew.
_SILENCE_SECONDS = 480.0
_CHANGES = {"ADDED": Change.ADDED, "MODIFIED": Change.MODIFIED, "DELETED": Change.DELETED}


class Delivery:
    """What is heard goes in from any thread; observers are called on the event loop that made it."""

    def __init__(
        self,
        kinds: Iterable[Kind],
        observers: Sequence[Observer],
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._existing = {kind: Existing() for kind in kinds}
        self._observers = {kind: [one for one in observers if kind in one.kinds] for kind in self._existing}
        self._metrics = metrics
        self._clock = clock
        self._heard_at = dict.fromkeys(self._existing, clock())
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._due = False
        self._synced = asyncio.Event()
        metrics.show(waiting=self.waiting, existing=self._numbers)
        self._note_synced()

    @property
    def synced(self) -> asyncio.Event:
        """Set once every observer has been shown all that exists."""
        return self._synced

    def waiting(self) -> int:
        """Count what was heard and is yet to be taken in."""
        return len(self._waiting)

    def silent(self) -> tuple[Kind, ...]:
        """Name the kinds of which nothing has been heard for longer than a working watch can be silent."""
        now = self._clock()
        return tuple(kind for kind, heard in self._heard_at.items() if now - heard > _SILENCE_SECONDS)

    # From the watch's thread.

    def heard_page(self, kind: Kind, wires: Sequence[Mapping[str, Any]], *, first: bool, ended_at: str | None) -> None:
        """See session.Hearing."""
        existing, work = self._existing[kind], list[Callable[[], None]]()
        if first:
            self._metrics.listing_started(kind.value)
            work.append(existing.take_listing_begun)
        work.extend(functools.partial(self._take_object, kind, Change.LISTED, wire) for wire in wires)
        if ended_at is not None:
            work.append(functools.partial(self._take_listing_ended, kind, ended_at))
        self._put(kind, work)

    def heard_watch(self, kind: Kind) -> None:
        """See session.Hearing."""
        self._metrics.watch_started(kind.value)
        self._heard_at[kind] = self._clock()

    def heard_object(self, kind: Kind, event: str, wire: Mapping[str, Any]) -> None:
        """An object changed."""
        change = _CHANGES.get(event)
        if change is not None:
            self._put(kind, [functools.partial(self._take_object, kind, change, wire)])

    def _put(self, kind: Kind, work: Sequence[Callable[[], None]]) -> None:
        self._heard_at[kind] = self._clock()
        self._waiting.extend(work)
        # Read and written without a lock: at worst a turn is called for that finds nothing to do.
        if not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._turn)

    # On the event loop.

    def _turn(self) -> None:
        self._due = False
        end = self._clock() + _TURN_SECONDS
        while self._waiting:
            self._waiting.popleft()()
            if self._clock() > end and self._waiting:
                self._due = True
                self._loop.call_soon(self._turn)
                return

    def _take_listing_ended(self, kind: Kind, version: str) -> None:
        for identity in self._existing[kind].take_listing_ended(version):
            self._show(kind, Change.DELETED, _remains(identity), identity)
        self._note_synced()

    def _take_object(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        identity, existing = identity_of(wire), self._existing[kind]
        takes = {Change.LISTED: existing.take_listed, Change.DELETED: existing.take_deleted}
        if takes.get(change, existing.take_changed)(identity):
            self._show(kind, change, wire, identity)

    def _show(self, kind: Kind, change: Change, wire: Mapping[str, Any], identity: Identity) -> None:
        with self._metrics.taking_in(kind.value):
            for observer in self._observers[kind]:
                try:
                    observer.saw(kind, change, wire)
                except Exception:
                    # One object, or one part of the controller, must not stop the rest.
                    log.exception(
                        "object_not_taken_in",
                        part=type(observer).__name__,
                        kind=kind.value,
                        change=change.value,
                        namespace=identity.namespace,
                        name=identity.name,
                    )
                    self._metrics.failed(type(observer).__name__)

    def _note_synced(self) -> None:
        if all(existing.synced for existing in self._existing.values()) and not self._synced.is_set():
            self._synced.set()
            log.info("cluster_known", **self._numbers())

    def _numbers(self) -> Mapping[str, int]:
        return {kind.value: len(existing) for kind, existing in self._existing.items()}


def _remains(identity: Identity) -> Mapping[str, Any]:
    """Say of an object that is gone all that is still known: who it was."""
    names = {"namespace": identity.namespace} if identity.namespace else {}
    return {"metadata": {**names, "name": identity.name, "uid": identity.uid}}
