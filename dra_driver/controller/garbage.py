"""Takes allocations back that nobody uses and that Kubernetes leaves: the claims keep their share of a card for good.

Kubernetes' own controller takes an allocation back in the moment in which a claim loses its last user, and removes
users that no longer exist, also from claims on nodes that are gone. What it leaves is a claim that is allocated and
has no user to lose: kube-scheduler gives up a pod after it has allocated (binding failed, the node went) and takes the
reservation back but not the allocation, and a claim that a person made does not go with the pod.
Source: pkg/controller/resourceclaim/controller.go (syncClaim) and
pkg/scheduler/framework/plugins/dynamicresources (Unreserve) of Kubernetes 1.37.

Taken back is only what has been so for a while, is reserved for nobody, is owned by nobody and is named by no pod
that could still run; and only the allocation: the claim itself is a person's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter

from dra_driver.controller.observing import Change, Kind
from dra_driver.errors import HamiDraError
from dra_driver.kube.claims import ClaimRef
from dra_driver.kube.connection import MERGE_PATCH, Connection
from dra_driver.kube.errors import Conflict, NotFound
from dra_driver.kube.events import ApiEvents, Event, ObjectRef, event_name
from dra_driver.kube.pods import names_claim, pods_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

REASON = "AllocationTakenBack"
_RETRY_SECONDS = 10.0
_CLAIMS = "/apis/resource.k8s.io/v1"


@dataclass(frozen=True)
class _Idle:
    """A claim that holds an allocation and has no user, since a moment of the clock."""

    ref: ClaimRef
    due: float


class UnusedAllocations:
    """Finds claims of our driver that hold an allocation and have no user, and frees them (Observer)."""

    kinds = frozenset({Kind.CLAIMS, Kind.NODES})

    def __init__(
        self,
        connection: Connection,
        events: ApiEvents,
        registry: CollectorRegistry,
        *,
        driver: str,
        grace_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._events = events
        self._driver = driver
        self._grace = grace_seconds
        self._clock = clock
        self._idle: dict[str, _Idle] = {}
        self._nodes: set[str] = set()
        self._changed = asyncio.Event()
        self._taken_back = Counter(
            "vgpu_controller_allocations_taken_back_total",
            "Allocations without a user that were taken back; node tells whether the claim's node still existed.",
            ("node",),
            registry=registry,
        )

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """See Observer."""
        metadata = wire.get("metadata") or {}
        if kind is Kind.NODES:
            note = self._nodes.discard if change is Change.DELETED else self._nodes.add
            note(str(metadata.get("name", "")))
            return
        uid = str(metadata.get("uid", ""))
        if change is Change.DELETED or not is_idle(wire, self._driver):
            self._idle.pop(uid, None)
        elif uid not in self._idle:
            ref = ClaimRef(str(metadata.get("namespace", "")), str(metadata.get("name", "")), uid)
            self._idle[uid] = _Idle(ref, self._clock() + self._grace)
            self._changed.set()

    async def act(self) -> None:
        """See Observer."""
        while True:
            self._changed.clear()
            now = self._clock()
            for idle in [one for one in self._idle.values() if one.due <= now]:
                await self._look_closer(idle)
            await self._until_due()

    async def _until_due(self) -> None:
        first = min((idle.due for idle in self._idle.values()), default=None)
        try:
            async with asyncio.timeout(None if first is None else max(0.0, first - self._clock())):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _look_closer(self, idle: _Idle) -> None:
        uid = idle.ref.uid
        try:
            freed = await self._free_if_unused(idle.ref)
        except Conflict:
            # Whoever changed it may use it: the watch will tell.
            freed = False
        except HamiDraError as error:
            log.warning("allocation_not_taken_back", claim=str(idle.ref), uid=uid, error=str(error))
            self._put_off(idle, _RETRY_SECONDS)
            return
        if freed:
            self._idle.pop(uid, None)
        else:
            self._put_off(idle, self._grace or _RETRY_SECONDS)

    def _put_off(self, idle: _Idle, seconds: float) -> None:
        if idle.ref.uid in self._idle:
            self._idle[idle.ref.uid] = _Idle(idle.ref, self._clock() + seconds)

    async def _free_if_unused(self, ref: ClaimRef) -> bool:
        """Look at the claim and at the pods beside it as they are now; tells whether there is nothing left to do."""
        path = f"{_CLAIMS}/namespaces/{ref.namespace}/resourceclaims/{ref.name}"
        try:
            wire = await self._connection.request("GET", path)
        except NotFound:
            return True
        if wire["metadata"].get("uid") != ref.uid or not is_idle(wire, self._driver):
            return True
        async for pod in pods_of(self._connection, ref.namespace):
            if names_claim(pod, ref.name):
                return False
        version = str(wire["metadata"]["resourceVersion"])
        body = {"metadata": {"uid": ref.uid, "resourceVersion": version}, "status": {"allocation": None}}
        await self._connection.request("PATCH", f"{path}/status", body=body, content_type=MERGE_PATCH)
        nodes = _nodes_of(wire)
        await self._tell(ref, version, node_gone=bool(nodes) and not nodes & self._nodes)
        return True

    async def _tell(self, ref: ClaimRef, version: str, *, node_gone: bool) -> None:
        log.info("allocation_taken_back", claim=str(ref), uid=ref.uid, node_gone=node_gone)
        self._taken_back.labels("gone" if node_gone else "exists").inc()
        where = " on a node that no longer exists" if node_gone else ""
        note = (
            f"The claim was allocated{where} and has been without a user for {self._grace:.0f} s: the allocation is "
            "taken back, and made anew once a pod uses the claim"
        )
        regarding = ObjectRef("resource.k8s.io/v1", "ResourceClaim", ref.namespace, ref.name, ref.uid)
        # Of one allocation told once, whoever tells it.
        name = event_name(regarding, f"{ref.uid} {version}")
        try:
            await self._events.create(Event(name, regarding, REASON, "Deallocate", note))
        except HamiDraError as error:
            log.warning("event_not_told", claim=str(ref), reason=REASON, error=str(error))


def is_idle(wire: Mapping[str, Any], driver: str) -> bool:
    """Tell whether a claim holds devices of this driver, and has neither a user nor an owner nor its end ahead."""
    metadata, status = wire.get("metadata") or {}, wire.get("status") or {}
    if status.get("reservedFor") or metadata.get("deletionTimestamp"):
        return False
    if any(owner.get("controller") for owner in metadata.get("ownerReferences") or ()):
        return False
    devices = (status.get("allocation") or {}).get("devices") or {}
    return any(result.get("driver") == driver for result in devices.get("results") or ())


def _nodes_of(wire: Mapping[str, Any]) -> set[str]:
    """Name the nodes that an allocation can be used on, as far as it names any."""
    selector = ((wire.get("status") or {}).get("allocation") or {}).get("nodeSelector") or {}
    return {
        str(value)
        for term in selector.get("nodeSelectorTerms") or ()
        for field in term.get("matchFields") or ()
        if field.get("key") == "metadata.name" and field.get("operator") == "In"
        for value in field.get("values") or ()
    }
