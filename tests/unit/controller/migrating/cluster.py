"""A cluster in memory for the controller of migrated pods: templates with the rules of the API server, and a watch."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

from prometheus_client import CollectorRegistry

from dra_driver.controller.migrating.templates import LABELS, MigratedPods
from dra_driver.controller.observing import Change, Kind
from dra_driver.errors import HamiDraError
from dra_driver.kube.errors import Conflict, NotFound
from dra_driver.kube.events import ApiEvents, Event
from dra_driver.migration.admission import mutate
from dra_driver.migration.claiming import Context
from tests.unit.migration.pods_for_hami import container, pod
from tests.unit.migration.test_admission import applied

Wire = dict[str, Any]
DRIVER = "vgpu.hami.io"


class Events:
    """Takes events."""

    def __init__(self) -> None:
        self.written: list[Event] = []

    async def create(self, event: Event) -> None:
        self.written.append(event)


class Cluster:
    """Implements Templates. What is written is shown to the observer at once, unless the watch lags."""

    def __init__(self, *, grace_seconds: float = 0.0) -> None:
        self.templates: dict[tuple[str, str], Wire] = {}
        self.calls: list[str] = []
        self.failures: list[HamiDraError] = []
        self.lagging = False
        self.events = Events()
        self.registry = CollectorRegistry()
        self.deleting = asyncio.Event()
        self.may_delete = asyncio.Event()
        self.may_delete.set()
        self._versions = itertools.count(1)
        self._changed = asyncio.Event()
        self.observer = MigratedPods(
            self,
            cast("ApiEvents", self.events),
            self.registry,
            driver=DRIVER,
            grace_seconds=grace_seconds,
        )

    # Templates.

    async def get(self, namespace: str, name: str) -> Wire:
        with self._call("get"):
            if (namespace, name) not in self.templates:
                raise NotFound("GET", 404, name)
            return copy.deepcopy(self.templates[(namespace, name)])

    async def create(self, wire: Wire) -> Wire:
        with self._call("create"):
            await asyncio.sleep(0)
            if self.failures:
                raise self.failures.pop(0)
            return self.put(wire)

    async def delete(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        with self._call("delete"):
            self.deleting.set()
            await self.may_delete.wait()
            found = self.templates.get((namespace, name))
            if found is None:
                raise NotFound("DELETE", 404, name)
            if (found["metadata"]["uid"], found["metadata"]["resourceVersion"]) != (uid, resource_version):
                raise Conflict("DELETE", 409, "precondition")
            self.take(namespace, name)

    # What a test arranges.

    def put(self, wire: Wire) -> Wire:
        """Let a template exist."""
        key = (wire["metadata"]["namespace"], wire["metadata"]["name"])
        if key in self.templates:
            raise Conflict("POST", 409, "exists")
        stored = copy.deepcopy(wire)
        number = next(self._versions)
        stored["metadata"] |= {"uid": f"template-{number}", "resourceVersion": str(number)}
        self.templates[key] = stored
        self._show(Kind.TEMPLATES, Change.ADDED, stored)
        return copy.deepcopy(stored)

    def take(self, namespace: str, name: str) -> None:
        """Let a template be gone, whoever removed it."""
        self._show(Kind.TEMPLATES, Change.DELETED, self.templates.pop((namespace, name)))
        self._changed.set()

    def show(self, wire: Wire, change: Change = Change.ADDED) -> None:
        """Let the observer see a pod."""
        self.observer.saw(Kind.PODS, change, wire)

    async def until(self, *names: str) -> None:
        """Wait until exactly these templates exist."""
        async with asyncio.timeout(20):
            while {name for _, name in self.templates} != set(names):
                self._changed.clear()
                await self._changed.wait()

    async def called(self, *calls: str) -> None:
        """Wait until exactly these calls were made."""
        async with asyncio.timeout(20):
            while self.calls != list(calls):
                self._changed.clear()
                await self._changed.wait()

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[None]:
        """Let the observer act inside."""
        task = asyncio.create_task(self.observer.act())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def counted(self, outcome: str) -> float:
        """How often it is said to have come to that."""
        name = "vgpu_controller_template_changes_total"
        return self.registry.get_sample_value(name, {"outcome": outcome}) or 0

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        """Note a call when it has ended, however it did."""
        try:
            yield
        finally:
            self.calls.append(name)
            self._changed.set()

    def _show(self, kind: Kind, change: Change, wire: Wire) -> None:
        if not self.lagging:
            self.observer.saw(kind, change, copy.deepcopy(wire))
        self._changed.set()


def migrated_pod(name: str, *, mebibytes: int = 100, namespace: str = "team", phase: str = "Pending") -> Wire:
    """A pod as it is stored after admission."""
    wire = pod(container(nvidia_gpu=1, nvidia_gpumem=mebibytes))
    wire = applied(wire, mutate(wire, Context(driver=DRIVER), subject="Pod"))
    wire["metadata"] |= {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"}
    wire["status"] = {"phase": phase}
    return wire


def template_of(wire: Wire) -> str:
    """The template that a pod names."""
    (claim,) = wire["spec"]["resourceClaims"]
    return str(claim["resourceClaimTemplateName"])


def somebodys(name: str, *, labels: dict[str, str] | None = None, spec: Wire | None = None) -> Wire:
    """A template that is there already."""
    metadata = {"namespace": "team", "name": name, **({"labels": labels} if labels else {})}
    return {"metadata": metadata, "spec": {"spec": spec or {}}}


OURS = LABELS
