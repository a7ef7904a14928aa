"""One Lease (coordination.k8s.io/v1): what it says of who holds it, and how it is read, written and watched.

Source: k8s.io/api/coordination/v1/types.go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dra_driver.errors import ObjectRejected
from dra_driver.kube.connection import Connection, JsonObject

_API_VERSION = "coordination.k8s.io/v1"


@dataclass(frozen=True)
class LeaseRecord:
    """A Lease as it is in the API; `holder` is empty where nobody has it.

    `renewed` stays text: nobody else's clock is to be believed, only that it changes.
    """

    version: str
    holder: str
    seconds: float
    renewed: str
    transitions: int
    wire: JsonObject

    @property
    def sign(self) -> tuple[str, str, int]:
        """What changes with every sign of life of the holder."""
        return self.holder, self.renewed, self.transitions

    def held_by(self, holder: str, *, seconds: float, now: datetime) -> JsonObject:
        """Write the Lease as it is to be when that one takes it, or renews it."""
        taken = holder != self.holder
        spec = {
            **(self.wire.get("spec") or {}),
            "holderIdentity": holder,
            "leaseDurationSeconds": int(seconds),
            "renewTime": _micro_time(now),
            "leaseTransitions": self.transitions + (1 if taken else 0),
        }
        if taken:
            spec["acquireTime"] = _micro_time(now)
        return {**self.wire, "spec": spec}

    def released(self, *, now: datetime) -> JsonObject:
        """Write the Lease as it is to be when its holder lets go of it."""
        spec = {**(self.wire.get("spec") or {}), "holderIdentity": "", "renewTime": _micro_time(now)}
        # The least that the API allows: whoever only looks at the times must not wait either.
        return {**self.wire, "spec": {**spec, "leaseDurationSeconds": 1}}


class ApiLease:
    """A Lease on the API server."""

    def __init__(self, connection: Connection, *, namespace: str, name: str) -> None:
        self._connection = connection
        self._folder = f"/apis/{_API_VERSION}/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._name = name

    async def read(self) -> LeaseRecord:
        """Read it. Raises KubeError (NotFound where there is none), ObjectRejected."""
        return parse_lease(await self._connection.request("GET", f"{self._folder}/{self._name}"))

    async def create(self) -> LeaseRecord:
        """Make it, held by nobody. Raises KubeError."""
        metadata = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/part-of": "hami-dra"},
        }
        body = {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": {"holderIdentity": ""}}
        return parse_lease(await self._connection.request("POST", self._folder, body=body))

    async def replace(self, wire: JsonObject) -> LeaseRecord:
        """Write it, unless it has changed since it was read. Raises KubeError (Conflict), ObjectRejected."""
        return parse_lease(await self._connection.request("PUT", f"{self._folder}/{self._name}", body=wire))

    async def changes(self, since: LeaseRecord) -> AsyncIterator[LeaseRecord]:
        """Yield it each time that it changes, until the watch ends. Raises KubeError, ObjectRejected."""
        query = {"fieldSelector": f"metadata.name={self._name}", "resourceVersion": since.version}
        async for event in self._connection.watch(self._folder, query=query):
            if event.get("type") in ("ADDED", "MODIFIED"):
                yield parse_lease(event.get("object") or {})
            else:
                # Deleted: whoever watches has to look, and make a new one.
                return


def parse_lease(wire: JsonObject) -> LeaseRecord:
    """Read a Lease. Raises ObjectRejected with the field's path."""
    metadata, spec = wire.get("metadata") or {}, wire.get("spec") or {}
    where = f"Lease {metadata.get('namespace', '?')}/{metadata.get('name', '?')}"
    return LeaseRecord(
        version=str(metadata.get("resourceVersion", "")),
        holder=str(spec.get("holderIdentity") or ""),
        seconds=_number(where, "leaseDurationSeconds", spec),
        renewed=str(spec.get("renewTime") or ""),
        transitions=_number(where, "leaseTransitions", spec),
        wire=wire,
    )


def _number(where: str, field: str, spec: dict[str, Any]) -> int:
    value = spec.get(field) or 0
    if not isinstance(value, int):
        raise ObjectRejected(where, f"spec.{field}", f"{value!r} is not a number")
    return value


def _micro_time(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
