"""An API server in memory, behind the same Connection as the real one.

It keeps nodes, claims and slices with resource versions, gives out watch streams that a test can break or stall,
checks preconditions and the rules for slices, and can leave out the fields of a feature gate that is off.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dra_driver.kube.errors import Conflict, Expired, Invalid, KubeError, NotFound, from_status
from tests.support.slice_rules import violations

JsonObject = dict[str, Any]

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
_CLAIMS = "/apis/resource.k8s.io/v1/namespaces/"
_NODES = "/api/v1/nodes/"
# The real server cuts what comes before its own random letters.
_LONGEST_BASE = 58
REQUEST_POLICY = "requestPolicy"


@dataclass(eq=False)
class _Stream:
    path: str
    selector: Mapping[str, str]
    queue: asyncio.Queue[JsonObject | KubeError | None] = field(default_factory=asyncio.Queue)


class MemoryApi:
    """Implements Connection. What a test arranges or reads is synchronous and takes effect at once."""

    def __init__(self, *, node: str = "node-a") -> None:
        self.slices: dict[str, JsonObject] = {}
        self.requests: list[tuple[str, str]] = []
        self.dropped_fields: frozenset[str] = frozenset()
        self.stalled = False
        self.ends_watches_at_once = False
        self.watches_opened = 0
        """Of slices."""
        self.watched: list[str] = []
        self._nodes = {node: {"metadata": {"name": node, "uid": str(uuid.uuid4())}}}
        self._claims: dict[tuple[str, str], JsonObject] = {}
        self._versions = itertools.count(100)
        self._version = 99
        self._paged_at = 0
        self._events: list[JsonObject] = []
        self._oldest = 0
        self._streams: set[_Stream] = set()
        self._failures: list[tuple[str, str, Exception]] = []
        self._waiting: set[asyncio.Event] = set()

    # What a test arranges.

    def put_claim(self, wire: JsonObject) -> None:
        """Let a claim exist, or replace it."""
        key = (wire["metadata"]["namespace"], wire["metadata"]["name"])
        kind = "MODIFIED" if key in self._claims else "ADDED"
        self._claims[key] = copy.deepcopy(wire)
        self._publish(kind, self._claims[key])

    def delete_claim(self, wire: JsonObject) -> None:
        """Let a claim be gone."""
        self._publish("DELETED", self._claims.pop((wire["metadata"]["namespace"], wire["metadata"]["name"])))

    def claim(self, wire: JsonObject) -> JsonObject:
        """A claim as it is now."""
        return copy.deepcopy(self._claims[(wire["metadata"]["namespace"], wire["metadata"]["name"])])

    def device_status(self, wire: JsonObject) -> list[JsonObject]:
        """What drivers have said of a claim's devices."""
        devices: list[JsonObject] = self.claim(wire).get("status", {}).get("devices", [])
        return devices

    def node_uid(self, node: str = "node-a") -> str:
        """The UID that owner references must carry."""
        return str(self._nodes[node]["metadata"]["uid"])

    def fail_next(self, method: str, path_start: str, error: Exception) -> None:
        """Answer the next request of this kind with an error."""
        self._failures.append((method, path_start, error))

    def wipe_slices(self) -> None:
        """Delete all slices, as the kubelet does when it starts."""
        for name in list(self.slices):
            self._remove(name)

    def edit_slice(self, name: str, change: Callable[[JsonObject], None]) -> None:
        """Change a slice as somebody else would."""
        wire = copy.deepcopy(self.slices[name])
        change(wire)
        self._store("MODIFIED", wire)

    def add_slice(self, wire: JsonObject) -> JsonObject:
        """Let a slice exist, whoever it belongs to."""
        return self._create(wire)

    def break_watches(self, error: KubeError | None = None) -> None:
        """End all watch streams, with an error or in order."""
        for stream in self._streams:
            stream.queue.put_nowait(error)

    def send_bookmarks(self) -> None:
        """Tell all watches of claims how far they are."""
        bookmark = {"metadata": {"resourceVersion": str(self._version)}}
        for stream in self._streams:
            if stream.path == CLAIMS:
                stream.queue.put_nowait({"type": "BOOKMARK", "object": bookmark})

    def forget_history(self) -> None:
        """Let every earlier resource version be too old to watch from."""
        self._oldest = self._version

    async def until(self, condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Wait until a condition on this server holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():
                changed = asyncio.Event()
                self._waiting.add(changed)
                await changed.wait()
                self._waiting.discard(changed)

    def writes(self) -> list[str]:
        """The methods of all requests that change something, in order."""
        return [method for method, _ in self.requests if method != "GET"]

    # Connection.

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
        await asyncio.sleep(0)
        self.requests.append((method, path))
        self._touch()
        self._fail_as_arranged(method, path)
        # Nothing is shared with the caller: it is JSON on a wire.
        answer = self._route(method, path, query or {}, copy.deepcopy(body))
        return copy.deepcopy(answer)

    async def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """See Connection."""
        await asyncio.sleep(0)
        self._fail_as_arranged("WATCH", path)
        since = int(query["resourceVersion"])
        if since < self._oldest:
            raise Expired(f"WATCH {path}", 410, f"too old resource version: {since}")
        stream = _Stream(path, _selector(query))
        for event in self._events:
            if int(event["object"]["metadata"]["resourceVersion"]) > since:
                self._offer(stream, event)
        self._streams.add(stream)
        if path == SLICES:
            self.watches_opened += 1
        self.watched.append(path)
        self._touch()
        if self.ends_watches_at_once:
            stream.queue.put_nowait(None)
        try:
            while (event_or_end := await stream.queue.get()) is not None:
                if isinstance(event_or_end, KubeError):
                    raise event_or_end
                yield copy.deepcopy(event_or_end)
        finally:
            self._streams.discard(stream)

    # Inside.

    def _fail_as_arranged(self, method: str, path: str) -> None:
        for failure in self._failures:
            if failure[0] == method and path.startswith(failure[1]):
                self._failures.remove(failure)
                raise failure[2]

    def _route(self, method: str, path: str, query: Mapping[str, str], body: JsonObject | None) -> JsonObject:
        request = f"{method} {path}"
        if method == "GET" and path.startswith(_NODES):
            return _found(request, self._nodes, path.removeprefix(_NODES))
        if method == "GET" and path.startswith(_CLAIMS):
            namespace, _, name = path.removeprefix(_CLAIMS).partition("/resourceclaims/")
            return _found(request, self._claims, (namespace, name))
        if method == "GET" and path == CLAIMS:
            return self._list_claims(request, query)
        if method == "PATCH" and path.startswith(_CLAIMS) and path.endswith("/status") and body is not None:
            return self._apply_status(request, body)
        if path == SLICES and method == "GET":
            items = [wire for wire in self.slices.values() if _selected(wire, _selector(query))]
            return {"metadata": {"resourceVersion": str(self._version)}, "items": items}
        if path == SLICES and method == "POST" and body is not None:
            return self._create(body)
        if path.startswith(f"{SLICES}/") and body is not None:
            return self._change(request, method, path.removeprefix(f"{SLICES}/"), body)
        raise from_status(request, 405, "the twin does not know this request")

    def _list_claims(self, request: str, query: Mapping[str, str]) -> JsonObject:
        """One page; the token of the next is the place in the list."""
        start, limit = int(query.get("continue", "0")), int(query["limit"])
        if start and self._version != self._paged_at:
            raise Expired(request, 410, "the list has changed")
        self._paged_at = self._version
        items = list(self._claims.values())
        more = {"continue": str(start + limit)} if start + limit < len(items) else {}
        return {"metadata": {"resourceVersion": str(self._version), **more}, "items": items[start : start + limit]}

    def _apply_status(self, request: str, body: JsonObject) -> JsonObject:
        """What server-side apply does for the only manager of `status.devices`."""
        wanted = body["metadata"]
        key = (wanted["namespace"], wanted["name"])
        current = _found(request, self._claims, key)
        if wanted["uid"] != current["metadata"]["uid"]:
            raise Conflict(request, 409, "Precondition failed: UID in precondition is another one")
        devices = body["status"].get("devices", [])
        results = current.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
        allocated = {_device_key(result) for result in results}
        if not {_device_key(device) for device in devices} <= allocated:
            raise Invalid(request, 422, "status.devices: must be an allocated device in the claim")
        status = {**current.get("status", {}), "devices": devices}
        self._claims[key] = {**current, "status": status}
        self._publish("MODIFIED", self._claims[key])
        return self._claims[key]

    def _create(self, wire: JsonObject) -> JsonObject:
        metadata = wire["metadata"]
        if "generateName" in metadata:
            metadata["name"] = metadata["generateName"][:_LONGEST_BASE] + uuid.uuid4().hex[:5]
        if metadata["name"] in self.slices:
            raise Conflict(f"POST {SLICES}", 409, f"{metadata['name']} already exists")
        metadata["uid"] = str(uuid.uuid4())
        return self._store("ADDED", wire)

    def _change(self, request: str, method: str, name: str, body: JsonObject) -> JsonObject:
        current = _found(request, self.slices, name)["metadata"]
        wanted = body.get("preconditions", {}) if method == "DELETE" else body["metadata"]
        for key in ("uid", "resourceVersion"):
            if wanted.get(key) not in (None, current[key]):
                raise Conflict(request, 409, f"{name}: {key} is {current[key]}, not {wanted[key]}")
        if method == "PUT":
            return self._store("MODIFIED", body)
        if method == "DELETE":
            return self._remove(name)
        raise from_status(request, 405, "the twin does not know this request")

    def _store(self, kind: str, wire: JsonObject) -> JsonObject:
        self._drop_fields(wire)
        problems = violations(wire)
        if problems:
            raise Invalid(f"POST {SLICES}", 422, "; ".join(problems))
        self._publish(kind, wire)
        self.slices[wire["metadata"]["name"]] = wire
        return wire

    def _remove(self, name: str) -> JsonObject:
        wire = copy.deepcopy(self.slices.pop(name))
        self._publish("DELETED", wire)
        return wire

    def _publish(self, kind: str, wire: JsonObject) -> None:
        self._version = next(self._versions)
        wire["metadata"]["resourceVersion"] = str(self._version)
        event = copy.deepcopy({"type": kind, "object": wire})
        self._events.append(event)
        if not self.stalled:
            for stream in self._streams:
                self._offer(stream, event)
        self._touch()

    def _drop_fields(self, wire: JsonObject) -> None:
        for device in wire["spec"].get("devices") or []:
            for name in self.dropped_fields:
                device.pop(name, None)
            if REQUEST_POLICY in self.dropped_fields:
                for capacity in device.get("capacity", {}).values():
                    capacity.pop(REQUEST_POLICY, None)

    def _offer(self, stream: _Stream, event: JsonObject) -> None:
        is_slice = "driver" in event["object"]["spec"]
        if is_slice == (stream.path == SLICES) and _selected(event["object"], stream.selector):
            stream.queue.put_nowait(event)

    def _touch(self) -> None:
        for changed in self._waiting:
            changed.set()


def _found(request: str, objects: Mapping[Any, JsonObject], key: object) -> JsonObject:
    if key not in objects:
        raise NotFound(request, 404, f"{key} not found")
    return objects[key]


def _device_key(wire: JsonObject) -> tuple[str, ...]:
    return tuple(wire.get(name, "") for name in ("driver", "pool", "device", "shareID"))


def _selector(query: Mapping[str, str]) -> Mapping[str, str]:
    pairs = (part.partition("=") for part in query.get("fieldSelector", "").split(",") if part)
    return {path: value for path, _, value in pairs}


def _selected(wire: JsonObject, selector: Mapping[str, str]) -> bool:
    known = {"spec.driver": wire["spec"].get("driver", ""), "spec.nodeName": wire["spec"].get("nodeName", "")}
    return all(known[path] == value for path, value in selector.items())
