"""A Lease on an API server in memory, with outages and delays to order (implements Connection)."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from typing import Any

from dra_driver.kube.errors import Conflict, KubeError, NotFound

JsonObject = dict[str, Any]
FOLDER = "/apis/coordination.k8s.io/v1/namespaces/hami-dra/leases"
PATH = f"{FOLDER}/hami-dra-controller"


class LeaseServer:
    """What a test arranges are its fields; `for_replica` gives each replica a connection that can be cut alone."""

    def __init__(self) -> None:
        self.lease: JsonObject | None = None
        self.delay = 0.001
        self.writes: list[tuple[float, str]] = []
        """When who held it according to each write."""
        self._version = 0
        self._changed = asyncio.Event()

    def for_replica(self) -> ReplicaConnection:
        """A connection of its own."""
        return ReplicaConnection(self)

    def spec(self) -> JsonObject:
        """The Lease's spec as it is now."""
        assert self.lease is not None
        return dict(self.lease["spec"])

    def put(self, wire: JsonObject) -> JsonObject:
        """Write it, whoever does."""
        self._version += 1
        self.lease = copy.deepcopy({**wire, "metadata": {**wire["metadata"], "resourceVersion": str(self._version)}})
        self.writes.append((asyncio.get_running_loop().time(), str(wire["spec"].get("holderIdentity", ""))))
        self._tell()
        return copy.deepcopy(self.lease)

    def delete(self) -> None:
        """Let it be gone."""
        self.lease = None
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Wait until it is written or deleted."""
        await self._changed.wait()


class ReplicaConnection:
    """See LeaseServer."""

    def __init__(self, server: LeaseServer) -> None:
        self._server = server
        self.cut = False
        self.hangs = False
        self.requests: list[str] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        """See Connection."""
        self.requests.append(method)
        if self.hangs:
            await asyncio.sleep(3600)
        if self.cut:
            raise KubeError(f"{method} {path}", 0, "connection refused")
        await asyncio.sleep(self._server.delay)
        lease = self._server.lease
        if method == "POST" and body is not None:
            assert path == FOLDER
            if lease is not None:
                raise Conflict(f"{method} {path}", 409, "already exists")
            return self._server.put(body)
        assert path == PATH
        if lease is None:
            raise NotFound(f"{method} {path}", 404, "not found")
        if method == "PUT" and body is not None:
            if body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
                raise Conflict(f"{method} {path}", 409, "the object has been modified")
            return self._server.put(body)
        return copy.deepcopy(lease)

    async def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """See Connection."""
        assert (path, query["fieldSelector"]) == (FOLDER, "metadata.name=hami-dra-controller")
        seen = query["resourceVersion"]
        while True:
            if self.cut:
                raise KubeError(f"WATCH {path}", 0, "connection refused")
            lease = self._server.lease
            if lease is None:
                yield {"type": "DELETED", "object": {}}
            elif lease["metadata"]["resourceVersion"] != seen:
                seen = lease["metadata"]["resourceVersion"]
                yield {"type": "MODIFIED", "object": copy.deepcopy(lease)}
            await self._server.change()
