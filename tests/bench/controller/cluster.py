"""Makes a large cluster's objects on the API server, and changes them afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from dra_driver.kube.connection import Connection
from tests.bench.controller import world
from tests.bench.controller.world import CLAIMS_PER_NODE, NAMESPACES, Filling, Wire

_AT_ONCE = 32
_DRA = "/apis/resource.k8s.io/v1"


class LargeCluster:
    """Nodes, slices and claims, by one connection."""

    def __init__(self, connection: Connection, nodes: int) -> None:
        self.connection = connection
        self.nodes = tuple(f"node-{number:04d}" for number in range(nodes))
        self.claims = nodes * CLAIMS_PER_NODE
        self.filling = Filling(self.nodes)

    @property
    def objects(self) -> int:
        """How many objects there are."""
        return len(self.nodes) * 2 + self.claims

    async def fill(self) -> float:
        """Make everything; returns the seconds that it took."""
        begun = time.monotonic()
        for name in ("hami-dra", *NAMESPACES):
            await self.post("/api/v1/namespaces", {"metadata": {"name": name}})
            await self.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
        await self.post(f"{_DRA}/deviceclasses", world.device_class())
        await self._all(self._node(number) for number in range(len(self.nodes)))
        await self._all(self._held(number) for number in range(self.claims))
        return time.monotonic() - begun

    async def post(self, path: str, wire: Wire) -> Wire:
        """Create an object."""
        return await self.connection.request("POST", path, body=wire)

    async def wait(self, name: str, memory: str) -> float:
        """Make a claim that no card takes, and its pod; returns when the pod was made."""
        namespace = NAMESPACES[hash(name) % len(NAMESPACES)]
        path = f"{_DRA}/namespaces/{namespace}/resourceclaims"
        await self.post(path, world.claim(namespace, name, memory, 10))
        begun = time.monotonic()
        await self.post(f"/api/v1/namespaces/{namespace}/pods", world.pod(namespace, name))
        return begun

    async def turn(self, number: int) -> None:
        """A claim loses its share and gets it again: two changes, as the controller sees them."""
        path = _claim_path(number)
        wire = await self.connection.request("GET", path)
        status = wire.pop("status")
        await self.connection.request("PUT", f"{path}/status", body={**wire, "status": {}})
        fresh = await self.connection.request("GET", path)
        share = status["allocation"]["devices"]["results"][0]
        share["shareID"] = f"{number:08d}-0000-4000-8000-{time.monotonic_ns() % 10**12:012d}"
        await self.connection.request("PUT", f"{path}/status", body={**fresh, "status": status})

    async def beat(self, number: int) -> None:
        """A node says that it lives."""
        path = f"/api/v1/nodes/{self.nodes[number % len(self.nodes)]}/status"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": stamp}]
        body = {"status": {"conditions": conditions}}
        await self.connection.request("PATCH", path, body=body, content_type="application/strategic-merge-patch+json")

    async def _node(self, number: int) -> None:
        name = self.nodes[number]
        await self.post("/api/v1/nodes", world.node(name))
        await self.post(f"{_DRA}/resourceslices", world.resource_slice(name, number))

    async def _held(self, number: int) -> None:
        memory, status = self.filling.next()
        namespace = _namespace(number)
        wire = world.claim(namespace, _name(number), memory, 10)
        made = await self.post(f"{_DRA}/namespaces/{namespace}/resourceclaims", wire)
        await self.connection.request("PUT", f"{_claim_path(number)}/status", body={**made, "status": status})

    @staticmethod
    async def _all(works: Iterable[Awaitable[Any]]) -> None:
        """Do all of it, some at a time."""
        waiting = iter(works)

        async def worker() -> None:
            for work in waiting:
                await work

        await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


def _namespace(number: int) -> str:
    return NAMESPACES[number % len(NAMESPACES)]


def _name(number: int) -> str:
    return f"claim-{number:05d}"


def _claim_path(number: int) -> str:
    return f"{_DRA}/namespaces/{_namespace(number)}/resourceclaims/{_name(number)}"


async def at_rate(per_second: float, seconds: float, work: Callable[[int], Awaitable[None]]) -> int:
    """Begin `work` so often, for so long; returns how often."""
    number, begun = 0, time.monotonic()
    running: set[asyncio.Future[None]] = set()
    while (elapsed := time.monotonic() - begun) < seconds:
        if elapsed * per_second >= number:
            running.add(asyncio.ensure_future(work(number)))
            number += 1
        else:
            await asyncio.sleep(min(0.05, number / per_second - elapsed))
    await asyncio.gather(*running)
    return number
