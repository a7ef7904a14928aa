"""Single objects behind a Connection: read, replaced and patched under resource versions, as at the API server."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any

from dra_driver.kube.errors import Conflict, KubeError, NotFound

JsonObject = dict[str, Any]


class ObjectsApi:
    """Objects by their path."""

    def __init__(self, objects: Mapping[str, JsonObject]) -> None:
        self._versions = itertools.count(1)
        self.objects = {path: self._versioned(wire) for path, wire in objects.items()}
        self.requests: list[tuple[str, str]] = []
        self.asked = asyncio.Event()
        self.failing: KubeError | None = None

    @property
    def writes(self) -> list[tuple[str, str]]:
        """The requests that change something."""
        return [request for request in self.requests if request[0] != "GET"]

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
        self.requests.append((method, path))
        self.asked.set()
        await asyncio.sleep(0)
        if self.failing:
            raise self.failing
        name = f"{method} {path}"
        if path not in self.objects:
            raise NotFound(name, 404, "not found")
        if body is not None:
            wanted = (body.get("metadata") or {}).get("resourceVersion")
            if wanted not in (None, self.objects[path]["metadata"]["resourceVersion"]):
                raise Conflict(name, 409, "the object has been modified")
            changed = body if method == "PUT" else _patched(self.objects[path], body)
            self.objects[path] = self._versioned(changed)
        return copy.deepcopy(self.objects[path])

    def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """See Connection."""
        raise KubeError(f"WATCH {path}", 405, "nothing here is watched")

    def _versioned(self, wire: JsonObject) -> JsonObject:
        wire = copy.deepcopy(wire)
        wire.setdefault("metadata", {})["resourceVersion"] = str(next(self._versions))
        return wire


def _patched(wire: JsonObject, patch: JsonObject) -> JsonObject:
    """A strategic merge as far as webhook configurations need it: webhooks are found by their names."""
    wire = copy.deepcopy(wire)
    for change in patch["webhooks"]:
        (webhook,) = [one for one in wire["webhooks"] if one["name"] == change["name"]]
        webhook.setdefault("clientConfig", {}).update(change.get("clientConfig", {}))
        webhook.update({name: value for name, value in change.items() if name != "clientConfig"})
    return wire
