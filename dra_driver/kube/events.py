"""Events of Kubernetes: a sentence about an object, shown by `kubectl describe` and kept for an hour or so.

The name is given, so that the same event written twice (after a crash, by another replica) is still one.
Source: k8s.io/api/events/v1/types.go, its validation in pkg/apis/core/validation/events.go (1.37).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from dra_driver.kube.connection import Connection, JsonObject
from dra_driver.kube.errors import Conflict

_LONGEST_NOTE = 1024
# A name takes 253 characters; this much of it is the object's, for people who list events.
_LONGEST_START = 200


@dataclass(frozen=True)
class ObjectRef:
    """Another object, as an event names it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def wire(self) -> JsonObject:
        """As the API has it."""
        names = {"namespace": self.namespace, "name": self.name, "uid": self.uid}
        return {"apiVersion": self.api_version, "kind": self.kind, **names}


@dataclass(frozen=True)
class Event:
    """What happened to `regarding`; `reason` and `action` in CamelCase. A warning asks for attention."""

    name: str
    regarding: ObjectRef
    reason: str
    action: str
    note: str
    warning: bool = False
    related: ObjectRef | None = None


def event_name(regarding: ObjectRef, once: str) -> str:
    """Name an event so that it is told once: the same for the same object and the same `once`, whoever tells it."""
    digest = hashlib.sha256(once.encode()).hexdigest()[:16]
    return f"{regarding.name[:_LONGEST_START].rstrip('-.')}.{digest}"


class ApiEvents:
    """Events on the API server, of one reporter."""

    def __init__(
        self,
        connection: Connection,
        *,
        controller: str,
        instance: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`controller` is a qualified name as `vgpu.hami.io/controller`, `instance` the name of the pod."""
        self._connection = connection
        self._controller = controller
        self._instance = instance
        self._now = now

    async def create(self, event: Event) -> None:
        """Write it, unless it is there already. Raises KubeError."""
        namespace = event.regarding.namespace or "default"
        body: JsonObject = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": event.name},
            "eventTime": self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason,
            "action": event.action,
            "note": event.note.encode()[:_LONGEST_NOTE].decode(errors="ignore"),
            "regarding": event.regarding.wire(),
            **({"related": event.related.wire()} if event.related else {}),
        }
        try:
            await self._connection.request("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body=body)
        except Conflict:
            return
