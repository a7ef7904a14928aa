"""The in-memory API server behind HTTP, for a plugin that runs as a process of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import yaml
from aiohttp import web

from dra_driver.kube.errors import KubeError
from tests.support.api import MemoryApi


class HttpApi:
    """Serves a MemoryApi on a free port of the loopback address, in a thread, for as long as it is entered."""

    def __init__(self, api: MemoryApi) -> None:
        self._api = api
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner
        self.port = 0

    def __enter__(self) -> HttpApi:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def call(self, work: Callable[[], None]) -> None:
        """Do something with the API in the server's thread, which alone may touch what watches wait for."""

        async def soon() -> None:
            work()

        asyncio.run_coroutine_threadsafe(soon(), self._loop).result(30)

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    async def _serve(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        # Watches never end by themselves.
        open_requests = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_requests:
            task.cancel()
        await asyncio.gather(*open_requests, return_exceptions=True)
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return await self._stream(request)
        body = await request.json() if request.can_read_body else None
        try:
            answer = await self._api.request(request.method, request.path, query=request.query, body=body)
        except KubeError as error:
            return web.json_response({"kind": "Status", "message": error.message}, status=error.status)
        return web.json_response(answer)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for event in self._api.watch(request.path, query=request.query):
            await response.write(json.dumps(event).encode() + b"\n")
        return response
