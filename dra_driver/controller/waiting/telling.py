"""Says on the API server why a claim waits: as events on the claim and on its pod, and as a record on the claim.

The record comes last, and only if the claim is still as it was: what it says has then been told, and a controller that
is started anew repeats nothing. An event's name is made of the claim, the pod and the record's number, so that what was
told before a crash is not told twice.
"""

from __future__ import annotations

from dra_driver.controller.waiting.news import ANNOTATION
from dra_driver.controller.waiting.notes import end_note, note
from dra_driver.controller.waiting.record import Record
from dra_driver.explain.objects import Claim
from dra_driver.kube.connection import MERGE_PATCH, Connection, JsonObject
from dra_driver.kube.events import ApiEvents, Event, ObjectRef, event_name

ACTION = "Waiting"
ENDED = "WaitEnded"


class Teller:
    """Writes. Every method raises KubeError."""

    def __init__(self, connection: Connection, events: ApiEvents) -> None:
        self._connection = connection
        self._events = events

    async def waits(self, claim: Claim, version: str, pod: ObjectRef | None, record: Record) -> str:
        """Tell why a claim waits; returns its new resource version."""
        await self._tell(claim, pod, record, record.code, note(record), warning=True)
        return await self._keep(claim, version, record.text())

    async def ended(
        self, claim: Claim, version: str, pod: ObjectRef | None, record: Record, *, seconds: float, why: str
    ) -> str:
        """Tell that the wait of which `record` speaks has ended; returns the new resource version."""
        await self._tell(claim, pod, record, ENDED, end_note(record, seconds, why), warning=False)
        return await self._keep(claim, version, None)

    async def _tell(
        self, claim: Claim, pod: ObjectRef | None, record: Record, reason: str, words: str, *, warning: bool
    ) -> None:
        mine = reference(claim)
        pairs = [(mine, pod)] if pod is None else [(mine, pod), (pod, mine)]
        for regarding, related in pairs:
            identity = f"{mine.uid} {record.since} {record.number} {warning} {regarding.uid}"
            name = event_name(regarding, identity)
            words_for_pod = words if regarding is mine else f"claim {mine.name}: {words}"
            await self._events.create(Event(name, regarding, reason, ACTION, words_for_pod, warning, related))

    async def _keep(self, claim: Claim, version: str, text: str | None) -> str:
        metadata: JsonObject = {
            "uid": claim.metadata.uid,
            "resourceVersion": version,
            "annotations": {ANNOTATION: text},
        }
        path = f"/apis/resource.k8s.io/v1/namespaces/{claim.metadata.namespace}/resourceclaims/{claim.metadata.name}"
        answer = await self._connection.request(
            "PATCH", path, query={"fieldManager": "hami-dra"}, body={"metadata": metadata}, content_type=MERGE_PATCH
        )
        return str(answer["metadata"]["resourceVersion"])


def reference(claim: Claim) -> ObjectRef:
    """A claim as events name it."""
    names = claim.metadata.namespace, claim.metadata.name, claim.metadata.uid
    return ObjectRef("resource.k8s.io/v1", "ResourceClaim", *names)


def pod_reference(namespace: str, name: str, uid: str) -> ObjectRef:
    """A pod as events name it."""
    return ObjectRef("v1", "Pod", namespace, name, uid)
