"""What is heard in a thread reaches the observers on the event loop: all of it, in order, and in turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from structlog.testing import capture_logs

from dra_driver.controller.delivery import Delivery
from dra_driver.controller.metrics import Metrics
from dra_driver.controller.observing import Change, Kind

Wire = Mapping[str, Any]


class Eye:
    """An observer that remembers, and fails on what is called `bad`."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = frozenset(kinds)
        self.seen: list[tuple[Kind, Change, str]] = []
        self.threads: set[int] = set()
        self.wires: list[Wire] = []

    def saw(self, kind: Kind, change: Change, wire: Wire) -> None:
        if wire["metadata"]["name"] == "bad":
            raise KeyError("bad")
        self.threads.add(threading.get_ident())
        self.wires.append(wire)
        self.seen.append((kind, change, wire["metadata"]["name"]))

    async def act(self) -> None:
        """Nothing."""


def wire(name: str, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


async def settled(delivery: Delivery) -> None:
    """Let everything that is on its way arrive."""
    while delivery.waiting():  # noqa: ASYNC110 - turns of the event loop are what is waited for
        await asyncio.sleep(0)


async def test_objects_come_in_the_order_in_which_they_were_heard_and_on_the_event_loop() -> None:
    eye = Eye(Kind.CLAIMS)
    delivery = Delivery([Kind.CLAIMS], [eye], Metrics())

    def hear() -> None:
        for version in range(5000):
            delivery.heard_object(Kind.CLAIMS, "MODIFIED", wire("one", version))

    await asyncio.to_thread(hear)
    await settled(delivery)
    assert [int(one["metadata"]["resourceVersion"]) for one in eye.wires] == list(range(5000))
    assert eye.threads == {threading.get_ident()}


async def test_a_burst_leaves_the_event_loop_time_for_others() -> None:
    class Slow(Eye):
        def saw(self, kind: Kind, change: Change, wire: Wire) -> None:
            super().saw(kind, change, wire)
            until = asyncio.get_running_loop().time() + 0.002
            while asyncio.get_running_loop().time() < until:
                pass

    eye = Slow(Kind.CLAIMS)
    delivery = Delivery([Kind.CLAIMS], [eye], Metrics())
    for number in range(100):
        delivery.heard_object(Kind.CLAIMS, "ADDED", wire(f"c-{number}"))
    turns = 0
    while delivery.waiting():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert len(eye.seen) == 100


async def test_each_observer_sees_its_kinds_alone() -> None:
    claims, both = Eye(Kind.CLAIMS), Eye(Kind.CLAIMS, Kind.NODES)
    delivery = Delivery([Kind.CLAIMS, Kind.NODES], [claims, both], Metrics())
    delivery.heard_page(Kind.CLAIMS, [wire("c")], first=True, ended_at="100")
    delivery.heard_object(Kind.NODES, "ADDED", wire("n"))
    await settled(delivery)
    assert claims.seen == [(Kind.CLAIMS, Change.LISTED, "c")]
    assert both.seen == [(Kind.CLAIMS, Change.LISTED, "c"), (Kind.NODES, Change.ADDED, "n")]


async def test_an_object_that_one_observer_cannot_take_disturbs_no_other() -> None:
    first, second = Eye(Kind.CLAIMS), Eye(Kind.CLAIMS)
    metrics = Metrics()
    delivery = Delivery([Kind.CLAIMS], [first, second], metrics)
    with capture_logs() as logs:
        delivery.heard_object(Kind.CLAIMS, "ADDED", wire("bad"))
        delivery.heard_object(Kind.CLAIMS, "ADDED", wire("good"))
        await settled(delivery)
    assert [name for _, _, name in first.seen] == ["good"]
    assert [name for _, _, name in second.seen] == ["good"]
    assert {entry["name"] for entry in logs if entry["event"] == "object_not_taken_in"} == {"bad"}
    assert metrics.registry.get_sample_value("vgpu_controller_failures_total", {"part": "Eye"}) == 2


async def test_all_is_known_when_every_kind_has_been_listed_to_its_end() -> None:
    eye = Eye(Kind.CLAIMS, Kind.NODES)
    delivery = Delivery([Kind.CLAIMS, Kind.NODES], [eye], Metrics())
    delivery.heard_page(Kind.CLAIMS, [wire("a")], first=True, ended_at=None)
    delivery.heard_page(Kind.NODES, [], first=True, ended_at="100")
    await settled(delivery)
    assert not delivery.synced.is_set()
    delivery.heard_page(Kind.CLAIMS, [wire("b")], first=False, ended_at="100")
    await settled(delivery)
    assert delivery.synced.is_set()
    assert eye.seen == [(Kind.CLAIMS, Change.LISTED, "a"), (Kind.CLAIMS, Change.LISTED, "b")]


async def test_what_a_listing_lacks_is_shown_as_deleted_by_name_and_uid() -> None:
    eye = Eye(Kind.CLAIMS)
    delivery = Delivery([Kind.CLAIMS], [eye], Metrics())
    for name in ("kept", "lost"):
        delivery.heard_object(Kind.CLAIMS, "ADDED", wire(name))
    delivery.heard_page(Kind.CLAIMS, [wire("kept")], first=True, ended_at="100")
    await settled(delivery)
    assert eye.seen[-1] == (Kind.CLAIMS, Change.DELETED, "lost")
    assert eye.wires[-1] == {"metadata": {"namespace": "ns", "name": "lost", "uid": "uid-lost"}}


async def test_an_event_of_a_kind_that_kubernetes_may_invent_is_passed_over() -> None:
    eye = Eye(Kind.CLAIMS)
    delivery = Delivery([Kind.CLAIMS], [eye], Metrics())
    delivery.heard_object(Kind.CLAIMS, "BOOKMARK", wire("c"))
    await settled(delivery)
    assert eye.seen == []


async def test_a_kind_of_which_nothing_is_heard_for_long_is_named() -> None:
    now = [0.0]
    delivery = Delivery([Kind.CLAIMS, Kind.NODES], [], Metrics(), clock=lambda: now[0])
    now[0] = 400.0
    delivery.heard_watch(Kind.NODES)
    assert delivery.silent() == ()
    now[0] = 500.0
    assert delivery.silent() == (Kind.CLAIMS,)
