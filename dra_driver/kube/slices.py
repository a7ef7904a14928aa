"""ResourceSlices of one driver on one node: list, watch, create, replace, delete.

Objects stay plain dicts: what another version of the API server adds must survive a write of ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from dra_driver.kube.connection import Connection, JsonObject

_PATH = "/apis/resource.k8s.io/v1/resourceslices"
API_VERSION = "resource.k8s.io/v1"
KIND = "ResourceSlice"


class Slices(Protocol):
    """Where slices are kept."""

    async def list(self) -> tuple[list[JsonObject], str]:
        """Return this driver's slices on this node, and the resource version to watch from. Raises KubeError."""
        ...

    def watch(self, resource_version: str) -> AsyncIterator[JsonObject]:
        """Yield events `{"type", "object"}` after that version, until the watch ends. Raises KubeError."""
        ...

    async def create(self, wire: JsonObject) -> JsonObject:
        """Create; returns the server's version of it. Raises KubeError."""
        ...

    async def replace(self, wire: JsonObject) -> JsonObject:
        """Replace; the object's resourceVersion must be current. Raises KubeError."""
        ...

    async def delete(self, wire: JsonObject) -> None:
        """Delete this very object, if it has not changed. Raises KubeError."""
        ...


class ApiSlices:
    """Slices on the API server."""

    def __init__(self, connection: Connection, *, driver: str, node: str) -> None:
        self._connection = connection
        self._query = {"fieldSelector": f"spec.driver={driver},spec.nodeName={node}"}

    async def list(self) -> tuple[list[JsonObject], str]:
        """See Slices."""
        answer = await self._connection.request("GET", _PATH, query=self._query)
        items = answer.get("items") or []
        return list(items), str(answer["metadata"]["resourceVersion"])

    def watch(self, resource_version: str) -> AsyncIterator[JsonObject]:
        """See Slices."""
        return self._connection.watch(_PATH, query={**self._query, "resourceVersion": resource_version})

    async def create(self, wire: JsonObject) -> JsonObject:
        """See Slices."""
        return await self._connection.request("POST", _PATH, body=wire)

    async def replace(self, wire: JsonObject) -> JsonObject:
        """See Slices."""
        return await self._connection.request("PUT", f"{_PATH}/{wire['metadata']['name']}", body=wire)

    async def delete(self, wire: JsonObject) -> None:
        """See Slices."""
        metadata = wire["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        await self._connection.request("DELETE", f"{_PATH}/{metadata['name']}", body=options)
