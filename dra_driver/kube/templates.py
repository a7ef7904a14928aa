"""ResourceClaimTemplates: create and delete those that the migration of pods needs."""

from __future__ import annotations

from typing import Protocol

from dra_driver.kube.connection import Connection, JsonObject

_ROOT = "/apis/resource.k8s.io/v1/namespaces"


class Templates(Protocol):
    """Where claim templates are kept."""

    async def get(self, namespace: str, name: str) -> JsonObject:
        """Read one. Raises KubeError."""
        ...

    async def create(self, wire: JsonObject) -> JsonObject:
        """Create; returns the server's version of it. Raises KubeError."""
        ...

    async def delete(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        """Delete this very template, if it has not changed. Raises KubeError."""
        ...


class ApiTemplates:
    """Claim templates on the API server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, namespace: str, name: str) -> JsonObject:
        """See Templates."""
        return await self._connection.request("GET", f"{_path(namespace)}/{name}")

    async def create(self, wire: JsonObject) -> JsonObject:
        """See Templates."""
        return await self._connection.request("POST", _path(wire["metadata"]["namespace"]), body=wire)

    async def delete(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        """See Templates."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        await self._connection.request("DELETE", f"{_path(namespace)}/{name}", body=options)


def _path(namespace: str) -> str:
    return f"{_ROOT}/{namespace}/resourceclaimtemplates"
