"""The watch, with kopf and HTTP, against a server that breaks it in the ways of the real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dra_driver.controller import operator, session
from dra_driver.controller.delivery import Delivery
from dra_driver.controller.metrics import Metrics
from dra_driver.controller.observing import Change, Kind
from dra_driver.controller.operator import Operator
from dra_driver.controller.serving import KindNotServed, served
from dra_driver.kube.connection import ServerConnection
from tests.support.watch_server import CLAIMS, NODES, WatchServer


class Eye:
    """An observer whose memory can be waited for."""

    kinds = frozenset({Kind.CLAIMS, Kind.NODES})

    def __init__(self) -> None:
        self.seen: list[tuple[Change, str]] = []
        self._more = asyncio.Event()

    def saw(self, _kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        self.seen.append((change, wire["metadata"]["name"]))
        self._more.set()

    async def act(self) -> None:
        """Nothing."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what has been seen is enough."""
        async with asyncio.timeout(30):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def until_seen(self, change: Change, name: str) -> None:
        await self.until(lambda: (change, name) in self.seen)


class Watching:
    """A server and an operator that watches it."""

    def __init__(self, server: WatchServer) -> None:
        self.server = server
        self.eye = Eye()
        self.metrics = Metrics()
        self.delivery: Delivery | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Watching]:
        async with self.server.serving() as credentials:
            async with ServerConnection(credentials) as connection:
                resources = await served(connection, self.eye.kinds)
            self.delivery = Delivery(resources, [self.eye], self.metrics)
            task = asyncio.create_task(Operator(resources, credentials, self.delivery, self.metrics).run())
            try:
                async with asyncio.timeout(30):
                    await self.delivery.synced.wait()
                await self.server.until(lambda: all(self.server.watches.values()))
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def server() -> WatchServer:
    server = WatchServer()
    for name in ("a", "b"):
        server.put(CLAIMS, name)
    server.put(NODES, "n")
    return server


async def test_everything_is_listed_and_changes_follow_in_order(server: WatchServer) -> None:
    server.page = 1
    async with Watching(server).running() as watching:
        listed = [(Change.LISTED, name) for name in ("a", "b", "n")]
        assert sorted(watching.eye.seen) == listed
        server.put(CLAIMS, "c")
        server.put(CLAIMS, "c")
        server.delete(CLAIMS, "c")
        await watching.eye.until_seen(Change.DELETED, "c")
        assert watching.eye.seen[3:] == [(Change.ADDED, "c"), (Change.MODIFIED, "c"), (Change.DELETED, "c")]


async def test_a_watch_that_ends_in_order_goes_on_without_a_listing(server: WatchServer) -> None:
    async with Watching(server).running() as watching:
        server.end_watches(CLAIMS)
        await server.until(lambda: server.watches[CLAIMS] == 2)
        server.put(CLAIMS, "c")
        await watching.eye.until_seen(Change.ADDED, "c")
        assert server.listings[CLAIMS] == 1


async def test_what_was_deleted_while_a_watch_had_expired_is_shown_as_deleted(server: WatchServer) -> None:
    async with Watching(server).running() as watching:
        server.delete(CLAIMS, "a", silently=True)
        server.expire_watches(CLAIMS)
        await watching.eye.until_seen(Change.DELETED, "a")
        assert server.listings == {CLAIMS: 2, NODES: 1}
        # What is as it was is no news.
        assert watching.eye.seen.count((Change.LISTED, "b")) == 1


async def test_an_operator_that_gives_up_is_begun_anew_and_knows_what_it_knew(
    server: WatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "_FIRST_PAUSE", 0.01)
    async with Watching(server).running() as watching:
        # Nothing is served under that path any more: kopf takes that for the end.
        server.status[CLAIMS] = 404
        server.end_watches(CLAIMS)
        server.delete(CLAIMS, "a", silently=True)
        nodes = server.listings[NODES]
        await server.until(lambda: server.refused > 0)
        del server.status[CLAIMS]
        await watching.eye.until_seen(Change.DELETED, "a")
        assert server.listings[NODES] > nodes
        server.put(CLAIMS, "c")
        await watching.eye.until(lambda: "c" in {name for _, name in watching.eye.seen})
        failures = watching.metrics.registry.get_sample_value("vgpu_controller_watch_failures_total")
        assert (failures or 0) >= 1


async def test_every_request_carries_the_token_of_its_time(server: WatchServer) -> None:
    async with Watching(server).running() as watching:
        assert set(server.tokens) == {"Bearer first"}
        server.token = "second"
        server.expire_watches(CLAIMS)
        server.put(NODES, "m")
        await watching.eye.until_seen(Change.ADDED, "m")
        await server.until(lambda: server.listings[CLAIMS] == 2)
        assert server.tokens[-1] == "Bearer second"


async def test_a_token_that_is_refused_is_not_tried_without_a_pause(
    server: WatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_REFUSED_SECONDS", 0.2)
    async with Watching(server).running() as watching:
        server.status[CLAIMS] = 401
        server.expire_watches(CLAIMS)
        begun = time.monotonic()
        await server.until(lambda: server.refused >= 5)
        assert time.monotonic() - begun >= 4 * 0.2
        del server.status[CLAIMS]
        server.put(CLAIMS, "c")
        await watching.eye.until(lambda: "c" in {name for _, name in watching.eye.seen})


async def test_a_kind_that_is_not_served_is_left_out_or_refused(server: WatchServer) -> None:
    async with server.serving() as credentials, ServerConnection(credentials) as connection:
        assert set(await served(connection, frozenset({Kind.CLAIMS, Kind.TAINT_RULES}))) == {Kind.CLAIMS}
        with pytest.raises(KindNotServed, match=r"resource\.k8s\.io/v1 deviceclasses"):
            await served(connection, frozenset({Kind.CLASSES}))


async def test_nothing_is_asked_but_to_list_and_to_watch(server: WatchServer) -> None:
    async with Watching(server).running() as watching:
        calls = {
            (sample.labels["verb"], sample.labels["resource"])
            for family in watching.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "vgpu_controller_api_calls_total"
        }
        listed = {(verb, resource) for verb in ("list", "watch") for resource in ("resourceclaims", "nodes")}
        assert calls - {("get", "other")} <= listed
