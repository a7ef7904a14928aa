"""Makes the claim templates that migrated pods name, and removes those that no pod needs any more.

The templates are shared between the pods of a namespace that ask for the same, so none of the pods owns one, and
Kubernetes' own garbage collection does not know when the last has gone; labels say whose they are instead. The picture
of pods may lag behind: a template that is deleted in the moment in which a pod comes to need it is made again when that
pod is seen, and Kubernetes then makes the claim.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from dra_driver.controller.migrating.metrics import TemplateMetrics
from dra_driver.controller.migrating.users import Key, Users
from dra_driver.controller.observing import Change, Kind
from dra_driver.errors import HamiDraError, ObjectRejected
from dra_driver.kube.errors import Conflict, Forbidden, Invalid, NotFound
from dra_driver.kube.events import ApiEvents, Event, event_name
from dra_driver.kube.templates import Templates
from dra_driver.migration.markers import FROM, FROM_HAMI
from dra_driver.migration.template import TemplateSpec, parse_template, template_object

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "hami-dra"
LABELS = {MANAGED_BY: MANAGER, FROM: FROM_HAMI}
# So many requests are under way at once: a burst of new pods must not wait one for the other.
_AT_ONCE = 8
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class _Existing:
    uid: str
    resource_version: str


class MigratedPods:
    """An Observer of pods and templates."""

    kinds = frozenset({Kind.PODS, Kind.TEMPLATES})

    def __init__(
        self,
        templates: Templates,
        events: ApiEvents,
        registry: CollectorRegistry,
        *,
        driver: str,
        grace_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`grace_seconds`: how long a template must have been without a pod before it is removed."""
        self._templates = templates
        self._events = events
        self._driver = driver
        self._grace = grace_seconds
        self._clock = clock
        self._users = Users(driver=driver)
        self._existing: dict[Key, _Existing] = {}
        self._idle_since: dict[Key, float] = {}
        self._pauses: dict[Key, float] = {}
        self._told: dict[Key, str] = {}
        self._due: dict[Key, float] = {}
        """What to look at, and from when on."""
        self._acting = False
        self._changed = asyncio.Event()
        self._metrics = TemplateMetrics(registry, existing=lambda: len(self._existing))

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """See Observer."""
        gone = change is Change.DELETED
        if kind is Kind.TEMPLATES:
            self._saw_template(wire, gone=gone)
            return
        for key in self._users.saw(wire, gone=gone):
            self._look_at(key)

    async def act(self) -> None:
        """See Observer."""
        self._acting = True
        try:
            # What was idle before counts from now on: this replica may have lagged behind the one that led.
            self._idle_since.clear()
            for key in (*self._existing, *self._users.needed()):
                self._look_at(key)
            while True:
                keys = await self._next()
                await asyncio.gather(*(self._settle(key) for key in keys))
        finally:
            self._acting = False
            self._due.clear()
            self._pauses.clear()
            self._told.clear()

    def _saw_template(self, wire: Mapping[str, Any], *, gone: bool) -> None:
        metadata = wire.get("metadata") or {}
        key = Key(str(metadata.get("namespace", "")), str(metadata.get("name", "")))
        if gone:
            # One that was made again meanwhile has another UID.
            if key in self._existing and self._existing[key].uid == str(metadata.get("uid", "")):
                del self._existing[key]
                self._idle_since.pop(key, None)
        elif _is_ours(metadata):
            self._existing[key] = _existing(metadata)
        else:
            return
        self._look_at(key)

    def _look_at(self, key: Key) -> None:
        """Have it settled, if it is this replica that acts."""
        if self._users.need(key) is not None:
            self._idle_since.pop(key, None)
        elif key in self._existing:
            self._idle_since.setdefault(key, self._clock())
        if self._acting:
            self._due[key] = self._clock()
            self._changed.set()

    async def _next(self) -> tuple[Key, ...]:
        """Wait until something is due, and take some of it."""
        while True:
            now = self._clock()
            if due := [key for key, when in self._due.items() if when <= now][:_AT_ONCE]:
                for key in due:
                    del self._due[key]
                return tuple(due)
            self._changed.clear()
            first = min(self._due.values(), default=None)
            try:
                async with asyncio.timeout(None if first is None else max(first - now, 0)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _settle(self, key: Key) -> None:
        """Bring one template to what it should be; where that fails, try again later."""
        try:
            spec, there = self._users.need(key), self._existing.get(key)
            if spec is not None and there is None:
                await self._create(key, spec)
            elif spec is None and there is not None:
                await self._remove(key, there)
        except HamiDraError as error:
            await self._complain(key, error)
            pause = min(self._pauses.get(key, _FIRST_PAUSE / 2) * 2, _LONGEST_PAUSE)
            log.warning("template_not_settled", template=str(key), error=str(error), retry_seconds=pause)
            self._metrics.failed()
            self._pauses[key] = pause
            self._due.setdefault(key, self._clock() + pause)
        else:
            self._pauses.pop(key, None)
            self._told.pop(key, None)

    async def _complain(self, key: Key, error: HamiDraError) -> None:
        """Tell a pod why it has no claim, once for each reason that will not go by itself."""
        pod = self._users.someone(key)
        if pod is None or not isinstance(error, Forbidden | Invalid) or self._told.get(key) == error.message:
            return
        self._told[key] = error.message
        note = f"claim template {key.name}: {error.message}"
        event = Event(
            event_name(pod, f"{pod.uid} {error.message}"),
            pod,
            "ClaimTemplateRefused",
            "CreateClaimTemplate",
            note,
            warning=True,
        )
        try:
            await self._events.create(event)
        except HamiDraError as unheard:
            log.warning("event_not_written", object=f"Pod {pod.namespace}/{pod.name}", error=str(unheard))

    async def _create(self, key: Key, spec: TemplateSpec) -> None:
        wire = template_object(key.name, spec, namespace=key.namespace, labels=LABELS)
        try:
            made = await self._templates.create(wire)
        except Conflict:
            await self._adopt(key, spec)
            return
        self._existing.setdefault(key, _existing(made["metadata"]))
        self._metrics.created()
        log.info("template_created", template=str(key))
        self._look_at(key)

    async def _adopt(self, key: Key, spec: TemplateSpec) -> None:
        """There is one already: ours, not seen yet, or somebody else's, which is left alone."""
        try:
            found = await self._templates.get(key.namespace, key.name)
        except NotFound:
            self._look_at(key)
            return
        if _is_ours(found["metadata"]):
            self._existing.setdefault(key, _existing(found["metadata"]))
        elif not _same(found, spec, driver=self._driver):
            log.error("template_taken", template=str(key), error="somebody has made another template of this name")

    async def _remove(self, key: Key, there: _Existing) -> None:
        ripe = self._idle_since.setdefault(key, self._clock()) + self._grace
        if self._clock() < ripe:
            self._due.setdefault(key, ripe)
            return
        try:
            await self._templates.delete(
                key.namespace, key.name, uid=there.uid, resource_version=there.resource_version
            )
        except NotFound:
            pass
        else:
            self._metrics.removed()
            log.info("template_removed", template=str(key))
        if self._existing.get(key) == there:
            del self._existing[key]
        self._idle_since.pop(key, None)
        # A pod may have come to need it meanwhile.
        self._look_at(key)


def _is_ours(metadata: Mapping[str, Any]) -> bool:
    return LABELS.items() <= (metadata.get("labels") or {}).items()


def _existing(metadata: Mapping[str, Any]) -> _Existing:
    return _Existing(str(metadata.get("uid", "")), str(metadata.get("resourceVersion", "")))


def _same(wire: Mapping[str, Any], spec: TemplateSpec, *, driver: str) -> bool:
    try:
        content = (wire.get("spec") or {}).get("spec")
        return parse_template(content, driver=driver, subject="", path="spec.spec") == spec
    except ObjectRejected:
        return False
