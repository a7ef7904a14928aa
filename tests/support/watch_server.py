"""An API server that serves listings and watches over HTTP, and can break them in the ways of the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from dra_driver.kube.credentials import Credentials

JsonObject = dict[str, Any]
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
NODES = "/api/v1/nodes"
_KINDS = {
    CLAIMS: {"name": "resourceclaims", "singularName": "", "kind": "ResourceClaim", "namespaced": True},
    NODES: {"name": "nodes", "singularName": "", "kind": "Node", "namespaced": False},
}
# kopf looks for it, though it is told to watch none.
_NAMESPACES = {"name": "namespaces", "singularName": "", "kind": "Namespace", "namespaced": False}
_CLOSE: JsonObject = {}


class WatchServer:
    """What a test arranges is synchronous; `tokens` are those that requests carried."""

    def __init__(self) -> None:
        self.listings: dict[str, int] = dict.fromkeys(_KINDS, 0)
        self.watches: dict[str, int] = dict.fromkeys(_KINDS, 0)
        self.tokens: list[str] = []
        self.token = "first"
        self.page = 1000
        self.refused = 0
        self.status: dict[str, int] = {}
        """What requests for a path are answered with, in place of what they ask for."""
        self._objects: dict[str, dict[str, JsonObject]] = {path: {} for path in _KINDS}
        self._streams: dict[str, list[asyncio.Queue[JsonObject]]] = {path: [] for path in _KINDS}
        self._told: dict[str, list[JsonObject]] = {path: [] for path in _KINDS}
        self._version = 100
        self._asked = asyncio.Event()

    def put(self, path: str, name: str, **more: Any) -> None:
        """Let an object exist, or change it."""
        event = "MODIFIED" if name in self._objects[path] else "ADDED"
        self._objects[path][name] = self._wire(name, **more)
        self._tell(path, event, self._objects[path][name])

    def delete(self, path: str, name: str, *, silently: bool = False) -> None:
        """Let an object be gone; `silently` tells no watch, as when none is open."""
        wire = self._objects[path].pop(name)
        self._version += 1
        if not silently:
            metadata = {**wire["metadata"], "resourceVersion": str(self._version)}
            self._tell(path, "DELETED", {**wire, "metadata": metadata})

    def end_watches(self, path: str) -> None:
        """End the watches in order, as the server does when their time is over."""
        for stream in self._streams[path]:
            stream.put_nowait(_CLOSE)

    def expire_watches(self, path: str) -> None:
        """End the watches because what they go on from is too old."""
        for stream in self._streams[path]:
            stream.put_nowait({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})

    async def until(self, condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Wait until a condition on this server holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._asked.clear()
                await self._asked.wait()

    def _wire(self, name: str, **more: Any) -> JsonObject:
        self._version += 1
        metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self._version)}
        return {"metadata": metadata, **more}

    def _tell(self, path: str, event: str, wire: JsonObject) -> None:
        self._told[path].append({"type": event, "object": wire})
        for stream in self._streams[path]:
            stream.put_nowait({"type": event, "object": wire})

    # Over HTTP.

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Credentials]:
        """Serve; yields credentials for it, with the token that is `token` at that moment."""
        application = web.Application()
        application.router.add_get("/{tail:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            yield Credentials(f"http://{host}:{port}", None, lambda: self.token)
        finally:
            for path in _KINDS:
                self.end_watches(path)
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.tokens.append(request.headers.get("Authorization", ""))
        asyncio.get_running_loop().call_soon(self._asked.set)
        if path in self.status:
            status = self.status[path]
            self.refused += 1
            return web.json_response({"kind": "Status", "code": status, "message": "as arranged"}, status=status)
        if path not in _KINDS:
            return web.json_response(_discovered(path))
        if request.query.get("watch") == "true":
            return await self._watch(request, path)
        return web.json_response(self._list(request, path))

    def _list(self, request: web.Request, path: str) -> JsonObject:
        start = int(request.query.get("continue", "0"))
        self.listings[path] += start == 0
        items = list(self._objects[path].values())
        more = {"continue": str(start + self.page)} if start + self.page < len(items) else {}
        return {"metadata": {"resourceVersion": str(self._version), **more}, "items": items[start : start + self.page]}

    async def _watch(self, request: web.Request, path: str) -> web.StreamResponse:
        self.watches[path] += 1
        stream: asyncio.Queue[JsonObject] = asyncio.Queue()
        since = int(request.query["resourceVersion"])
        for event in self._told[path]:
            if int(event["object"]["metadata"]["resourceVersion"]) > since:
                stream.put_nowait(event)
        self._streams[path].append(stream)
        response = web.StreamResponse()
        try:
            await response.prepare(request)
            # The real one sends its headers at once.
            await response.write(b"\n")
            while (event := await stream.get()) is not _CLOSE:
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._streams[path].remove(stream)
        return response


def _discovered(path: str) -> JsonObject:
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        version = {"groupVersion": "resource.k8s.io/v1", "version": "v1"}
        return {"groups": [{"name": "resource.k8s.io", "versions": [version], "preferredVersion": version}]}
    known = {**_KINDS, "/api/v1/namespaces": _NAMESPACES}
    found = [kind for full, kind in known.items() if full.rpartition("/")[0] == path]
    return {"resources": [{**kind, "verbs": ["get", "list", "watch"]} for kind in found]}
