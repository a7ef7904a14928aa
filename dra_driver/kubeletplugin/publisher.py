"""Keeping the published slices true: looks at the cards, watches the slices, writes what differs.

The kubelet deletes all slices of its node when it starts, and those of a driver that it lost; others may
delete them too. So the slices are watched, and what is missing is written again. An error is logged and tried
again later with back-off; it never ends the plugin, since prepared claims do not need the API server. While another
plugin of the node leads, which an update brings, it only watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from dra_driver.errors import HamiDraError
from dra_driver.kube.connection import JsonObject
from dra_driver.kube.errors import Expired, NotFound
from dra_driver.kube.nodes import Node
from dra_driver.kube.slices import Slices
from dra_driver.kubeletplugin.publish import GATES, WITHOUT_GATE, Changes, Pool, changes, dropped_fields

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# A plugin that leads may end at any time, and nobody tells.
_LOOK_FOR_LEADER_SECONDS = 1.0


class Progress(Protocol):
    """Who wants to know how publishing goes."""

    def wrote(self, operation: str) -> None:
        """A slice was written: `create`, `replace` or `delete`."""
        ...

    def published(self) -> None:
        """The server shows what it should."""
        ...

    def failed(self) -> None:
        """It could not be done this time."""
        ...

    def missing(self, feature_gates: Collection[str]) -> None:
        """Of the server's feature gates these are off, as far as was seen."""
        ...


class Unobserved:
    """Nobody wants to know."""

    def wrote(self, operation: str) -> None:
        """See Progress."""

    def published(self) -> None:
        """See Progress."""

    def failed(self) -> None:
        """See Progress."""

    def missing(self, feature_gates: Collection[str]) -> None:
        """See Progress."""


class Publisher:
    """Publishes pools. One task, from `run`; `refresh` tells it that the cards may have changed."""

    def __init__(
        self,
        *,
        slices: Slices,
        node: Callable[[], Awaitable[Node]],
        pools: Callable[[], Sequence[Pool]],
        leads: Callable[[], bool] = lambda: True,
        progress: Progress | None = None,
    ) -> None:
        """`leads`: whether this process decides what is published, and no other plugin of the node."""
        self._progress = progress or Unobserved()
        self._slices = slices
        self._node = node
        self._pools = pools
        self._leads = leads
        self._led = True
        self._due = asyncio.Event()
        self._relist = False
        # Slices that the watch has seen deleted: the answer to a write of ours may come after that.
        self._gone: set[str] = set()
        self._known: dict[str, JsonObject] = {}
        self._published = asyncio.Event()
        # Fields that this server drops; it may be another one after every list.
        self._dropped: frozenset[str] = frozenset()

    @property
    def published(self) -> asyncio.Event:
        """Set once everything was published for the first time."""
        return self._published

    def refresh(self) -> None:
        """Compare soon."""
        self._due.set()

    def relist(self) -> None:
        """Read soon what the server has, and compare: what the watch has told may not be all."""
        self._relist = True
        self._due.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._follow()
                pause = _FIRST_PAUSE
                if not self._relist:
                    # A server that ends every watch at once must not be stormed with lists.
                    await asyncio.sleep(pause)
            except HamiDraError as error:
                self._progress.failed()
                log.error("publishing_failed", error=str(error), retry_seconds=round(pause, 1))
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _follow(self) -> None:
        """List, then follow changes until the watch ends."""
        # Read anew each time: a node that was deleted and joined again has another UID.
        owner = await self._node()
        self._relist = False
        items, version = await self._slices.list()
        self._known = {_uid(wire): wire for wire in items}
        self._gone.clear()
        self._dropped = frozenset()
        self._due.set()
        watching = asyncio.create_task(self._watch(version))
        try:
            while True:
                due = asyncio.create_task(self._due.wait())
                try:
                    await asyncio.wait({due, watching}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    due.cancel()
                # Before the watch is looked at: where watches do not last, lists alone must do.
                if self._due.is_set() and not self._relist:
                    self._due.clear()
                    await self._publish(owner)
                if watching.done():
                    watching.result()
                    return
                if self._relist:
                    return
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, HamiDraError):
                await watching

    async def _watch(self, version: str) -> None:
        try:
            async for event in self._slices.watch(version):
                self._observe(event)
        except Expired:
            return

    def _observe(self, event: JsonObject) -> None:
        wire = event["object"]
        if event["type"] == "DELETED":
            self._known.pop(_uid(wire), None)
            self._gone.add(_uid(wire))
        elif event["type"] in ("ADDED", "MODIFIED"):
            known = self._known.get(_uid(wire))
            if known is not None and known["metadata"]["resourceVersion"] == wire["metadata"]["resourceVersion"]:
                return
            self._known[_uid(wire)] = wire
        self._due.set()

    async def _publish(self, owner: Node) -> None:
        if not self._is_to_publish():
            asyncio.get_running_loop().call_later(_LOOK_FOR_LEADER_SECONDS, self.refresh)
            return
        pools = {pool.name: pool for pool in self._pools()}
        for pool in pools.values():
            await self._publish_pool(pool, owner)
        forgotten = [wire for wire in self._known.values() if _pool(wire) not in pools]
        await self._write(Changes(deletions=forgotten))
        self._published.set()
        self._progress.missing(_gates(self._dropped))
        self._progress.published()

    def _is_to_publish(self) -> bool:
        leads = self._leads()
        if leads != self._led:
            log.info("publishing_taken_over" if leads else "publishing_left_to_other_plugin")
        self._led = leads
        return leads

    async def _publish_pool(self, pool: Pool, owner: Node) -> None:
        current = [wire for wire in self._known.values() if _pool(wire) == pool.name]
        planned = changes(pool, owner, current, now=_now(), without=self._dropped)
        if planned:
            await self._write(planned)
            log.info("pool_published", pool=pool.name, devices=[device.name for device in pool.devices])

    async def _write(self, planned: Changes) -> None:
        for wire in planned.deletions:
            await self._delete(wire)
        for wire in planned.replacements:
            self._remember(wire, await self._slices.replace(wire))
            self._progress.wrote("replace")
        for wire in planned.creations:
            self._remember(wire, await self._slices.create(wire))
            self._progress.wrote("create")

    async def _delete(self, wire: JsonObject) -> None:
        with contextlib.suppress(NotFound):
            await self._slices.delete(wire)
            self._progress.wrote("delete")
        self._known.pop(_uid(wire), None)

    def _remember(self, wanted: JsonObject, answer: JsonObject) -> None:
        if _uid(answer) in self._gone:
            self._due.set()
            return
        self._known[_uid(answer)] = answer
        dropped = dropped_fields(wanted, answer)
        if dropped:
            self._tell_dropped(answer["metadata"]["name"], dropped)
            self._dropped |= dropped
            # What is to be published may be another thing without them.
            self._due.set()

    def _tell_dropped(self, name: str, dropped: frozenset[str]) -> None:
        gates = _gates(dropped)
        means = [WITHOUT_GATE[gate] for gate in gates]
        log.error("server_dropped_fields", slice=name, fields=sorted(dropped), feature_gates=gates, means=means)


def _gates(fields: Collection[str]) -> list[str]:
    return sorted({GATES[field] for field in fields if field in GATES})


def _pool(wire: JsonObject) -> str:
    return str(wire["spec"]["pool"]["name"])


def _uid(wire: JsonObject) -> str:
    return str(wire["metadata"].get("uid", ""))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
