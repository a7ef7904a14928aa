"""Which allocations are taken back, and when: in virtual time, against claims and pods in memory."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dra_driver.controller.garbage import UnusedAllocations, is_idle
from dra_driver.controller.observing import Change, Kind
from dra_driver.kube.errors import Conflict, KubeError, NotFound
from dra_driver.kube.events import ApiEvents
from tests.support.virtual_time import run_virtually

Wire = dict[str, Any]
DRIVER = "vgpu.hami.io"
GRACE = 300.0
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/team-a/resourceclaims/"


def claim(name: str = "train", node: str = "node-a", **status: Any) -> Wire:
    result = {"request": "gpu", "driver": DRIVER, "pool": f"{node}-nvidia", "device": "gpu-0"}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    allocation = {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": [term]}}
    metadata = {"namespace": "team-a", "name": name, "uid": f"uid-{name}", "resourceVersion": "7"}
    return {"metadata": metadata, "status": {"allocation": allocation, **status}}


def pod(claim_name: str, **status: Any) -> Wire:
    return {"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimName": claim_name}]}, "status": status}


class Cluster:
    """Claims, pods and events in memory (Connection), and the part of the controller that watches them."""

    def __init__(self) -> None:
        self.claims: dict[str, Wire] = {}
        self.pods: list[Wire] = []
        self.events: list[Wire] = []
        self.patches: list[tuple[float, str]] = []
        self.fails: list[KubeError] = []
        self.registry = CollectorRegistry()
        loop = asyncio.get_running_loop()
        self.garbage = UnusedAllocations(
            self,
            ApiEvents(self, controller=f"{DRIVER}/controller", instance="pod-0"),
            self.registry,
            driver=DRIVER,
            grace_seconds=GRACE,
            clock=loop.time,
        )
        self.garbage.saw(Kind.NODES, Change.LISTED, {"metadata": {"name": "node-a"}})

    def put(self, wire: Wire) -> None:
        self.claims[wire["metadata"]["name"]] = wire
        self.garbage.saw(Kind.CLAIMS, Change.MODIFIED, wire)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Wire | None = None,
        content_type: str = "application/json",
    ) -> Wire:
        """See Connection."""
        await asyncio.sleep(0)
        if method == "PATCH" and self.fails:
            raise self.fails.pop(0)
        if path.endswith("/pods"):
            return {"items": copy.deepcopy(self.pods)}
        if path.endswith("/events"):
            self.events.append(body or {})
            return {}
        name = path.removeprefix(CLAIMS).removesuffix("/status")
        if name not in self.claims:
            raise NotFound(path, 404, "not found")
        if method == "PATCH":
            assert body == {"metadata": {"uid": f"uid-{name}", "resourceVersion": "7"}, "status": {"allocation": None}}
            self.patches.append((asyncio.get_running_loop().time(), name))
            self.put({**self.claims[name], "status": {}})
        return copy.deepcopy(self.claims[name])

    def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[Wire]:
        """Nobody watches here."""
        raise AssertionError(path)


def played(play: Callable[[Cluster], Awaitable[None]]) -> Cluster:
    """Run a play while the controller acts."""

    async def run() -> Cluster:
        cluster = Cluster()
        acting = asyncio.create_task(cluster.garbage.act())
        await play(cluster)
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        return cluster

    return run_virtually(run())


def test_an_allocation_without_a_user_is_taken_back_after_the_grace_and_told_once() -> None:
    async def play(cluster: Cluster) -> None:
        cluster.put(claim())
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(GRACE * 4)
        ((at, name),) = cluster.patches
        assert (name, GRACE <= at - begun <= GRACE + 1) == ("train", True)

    cluster = played(play)
    (event,) = cluster.events
    assert event["regarding"] == {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "namespace": "team-a",
        "name": "train",
        "uid": "uid-train",
    }
    assert (event["reason"], "no longer exists" in event["note"]) == ("AllocationTakenBack", False)
    counted = cluster.registry.get_sample_value("vgpu_controller_allocations_taken_back_total", {"node": "exists"})
    assert counted == 1


def test_that_its_node_is_gone_is_said() -> None:
    async def play(cluster: Cluster) -> None:
        cluster.put(claim(node="node-b"))
        await asyncio.sleep(GRACE * 2)

    assert "on a node that no longer exists" in played(play).events[0]["note"]


def test_a_claim_that_gets_a_user_in_time_is_left_alone() -> None:
    async def play(cluster: Cluster) -> None:
        cluster.put(claim())
        await asyncio.sleep(GRACE - 1)
        cluster.put(claim(reservedFor=[{"resource": "pods", "name": "p", "uid": "u"}]))
        await asyncio.sleep(GRACE * 4)

    assert played(play).patches == []


def test_the_grace_begins_anew_when_the_last_user_goes() -> None:
    async def play(cluster: Cluster) -> None:
        cluster.put(claim())
        await asyncio.sleep(GRACE - 1)
        cluster.put(claim(reservedFor=[{"resource": "pods", "name": "p", "uid": "u"}]))
        cluster.put(claim())
        await asyncio.sleep(GRACE - 1)
        assert cluster.patches == []
        await asyncio.sleep(2)
        assert len(cluster.patches) == 1

    played(play)


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_a_claim_that_a_pod_names_is_left_alone_for_as_long_as_the_pod_may_run(phase: str) -> None:
    async def play(cluster: Cluster) -> None:
        cluster.pods.append(pod("train", phase=phase))
        cluster.put(claim())
        await asyncio.sleep(GRACE * 10)
        assert cluster.patches == []
        cluster.pods = [pod("train", phase="Succeeded")]
        await asyncio.sleep(GRACE * 2)
        assert len(cluster.patches) == 1

    played(play)


def test_a_claim_that_changed_under_our_hands_is_looked_at_again_later() -> None:
    async def play(cluster: Cluster) -> None:
        cluster.fails.append(Conflict("PATCH", 409, "modified"))
        cluster.put(claim())
        await asyncio.sleep(GRACE + 1)
        assert cluster.patches == []
        await asyncio.sleep(GRACE * 2)
        assert len(cluster.patches) == 1

    played(play)


def test_an_api_server_that_fails_is_asked_again_soon() -> None:
    async def play(cluster: Cluster) -> None:
        cluster.fails.extend(KubeError("PATCH", 0, "connection refused") for _ in range(3))
        cluster.put(claim())
        await asyncio.sleep(GRACE + 60)
        assert len(cluster.patches) == 1

    played(play)


def test_a_claim_that_was_made_anew_under_the_same_name_is_another_one() -> None:
    async def play(cluster: Cluster) -> None:
        cluster.put(claim())
        other = claim()
        other["metadata"]["uid"] = "another"
        # Not shown yet: only the API server knows of it.
        cluster.claims["train"] = other
        await asyncio.sleep(GRACE * 2)

    assert played(play).patches == []


@pytest.mark.parametrize(
    "change",
    [
        {"status": {}},
        {"status": {"allocation": {"devices": {"results": [{"driver": "other.example.com"}]}}}},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"ownerReferences": [{"kind": "Pod", "name": "p", "controller": True}]},
    ],
    ids=["not allocated", "another driver's", "being deleted", "its owner's business"],
)
def test_what_is_no_garbage_of_ours(change: Wire) -> None:
    wire = claim()
    assert is_idle(wire, DRIVER)
    wire["status"] = change.pop("status", wire["status"])
    wire["metadata"].update(change)
    assert not is_idle(wire, DRIVER)
