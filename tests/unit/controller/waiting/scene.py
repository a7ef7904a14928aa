"""An observer of waiting claims among objects that a test shows it, and an API server that only takes notes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import CollectorRegistry

from dra_driver.controller.observing import Change, Kind
from dra_driver.controller.waiting.claims import WaitingClaims
from dra_driver.controller.waiting.news import ANNOTATION
from dra_driver.kube.connection import JsonObject
from dra_driver.kube.errors import KubeError
from dra_driver.kube.events import ApiEvents
from tests.unit.explain.situations import DRIVER, Wire, card, device_class, pool

_KINDS = {
    "ResourceClaim": Kind.CLAIMS,
    "ResourceSlice": Kind.SLICES,
    "DeviceClass": Kind.CLASSES,
    "Node": Kind.NODES,
    "Pod": Kind.PODS,
}


class Notes:
    """A Connection that keeps what is written; `fail` may raise instead."""

    def __init__(self) -> None:
        self.events: list[Wire] = []
        self.patches: list[Wire] = []
        self.fail: Callable[[str], KubeError | None] = lambda _path: None
        self._written = asyncio.Condition()
        self._version = 100

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
        assert body is not None
        if (error := self.fail(path)) is not None:
            raise error
        self._version += 1
        (self.events if path.endswith("/events") else self.patches).append(body)
        async with self._written:
            self._written.notify_all()
        return {"metadata": {"resourceVersion": str(self._version)}}

    def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """See Connection."""
        raise NotImplementedError

    async def until_patched(self, number: int) -> None:
        """Return when so many records were written."""
        async with asyncio.timeout(30), self._written:
            await self._written.wait_for(lambda: len(self.patches) >= number)

    @property
    def records(self) -> list[Wire | None]:
        """The records as they were written; None where one was taken away."""
        texts = [patch["metadata"]["annotations"][ANNOTATION] for patch in self.patches]
        return [json.loads(text) if text else None for text in texts]


class Scene:
    """The observer, acting; a node with one card of 16Gi."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.registry = CollectorRegistry()
        events = ApiEvents(self.notes, controller=f"{DRIVER}/controller", instance="controller-0")
        self.observer = WaitingClaims(self.notes, events, self.registry, driver=DRIVER)
        self._version = 0
        self.show(device_class())
        self.show(pool("node-a", card("gpu-0")))

    def show(self, *wires: Wire, change: Change = Change.ADDED) -> None:
        """Show objects, as they come from a watch."""
        for wire in wires:
            self._version += 1
            metadata = {"uid": f"uid-{wire['metadata']['name']}", "creationTimestamp": "2026-01-01T00:00:00Z"}
            metadata |= {"resourceVersion": str(self._version), **wire["metadata"]}
            self.observer.saw(_KINDS[wire["kind"]], change, {**wire, "metadata": metadata})

    async def settled(self) -> None:
        """Return when a claim that was shown last, and waits, has been told why: so has all that was due before."""
        done = len(self.notes.patches)
        self.show(*waiting_with_pod("last", "99Gi"))
        async with asyncio.timeout(30):
            while not any(patch["metadata"]["uid"] == "uid-last" for patch in self.notes.patches):
                done += 1
                await self.notes.until_patched(done)


@asynccontextmanager
async def acting(scene: Scene) -> AsyncIterator[Scene]:
    """Let the observer act."""
    task = asyncio.create_task(scene.observer.act())
    yield scene
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def waiting_with_pod(name: str, memory: str, device_class: str = DRIVER) -> list[Wire]:
    """A claim of team-a, and the pod that waits for it."""
    ask = {"deviceClassName": device_class, "capacity": {"requests": {"memory": memory}}}
    spec = {"devices": {"requests": [{"name": "slice", "exactly": ask}]}}
    claim = {"kind": "ResourceClaim", "metadata": {"namespace": "team-a", "name": name}, "spec": spec}
    return [claim, pod(name)]


def pod(name: str, **more: Any) -> Wire:
    """A pod that waits for the claim of its name."""
    spec = {"resourceClaims": [{"name": "gpu", "resourceClaimName": name}], **more}
    metadata = {"namespace": "team-a", "name": name, "uid": f"pod-{name}"}
    return {"kind": "Pod", "metadata": metadata, "spec": spec}


def allocated(claim: Wire, memory: str) -> Wire:
    """The claim with a share of the card."""
    result: Wire = {"request": "slice", "driver": DRIVER, "pool": "node-a-nvidia", "device": "gpu-0", "shareID": "s"}
    result["consumedCapacity"] = {"memory": memory, "cores": "0", "shares": "1"}
    return {**claim, "status": {"allocation": {"devices": {"results": [result]}}}}
