"""The small HTTP server of each of our processes: /healthz, /readyz and /metrics, for probes and for Prometheus.

Nothing can be changed through it, and tenants' objects are named in no answer but the metrics of their shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiohttp import web

from dra_driver.addresses import split_address
from dra_driver.conditions import Conditions
from dra_driver.errors import SettingsRejected

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HttpServer:
    """One server on one address."""

    def __init__(
        self,
        address: str,
        *,
        readiness: Conditions,
        metrics: Callable[[], Iterable[bytes]],
        liveness: Conditions | None = None,
    ) -> None:
        """`address`: host:port; port 0 takes a free one. A process without `liveness` is alive while it answers.

        `metrics` are told in parts, between which the process does its other work.
        """
        self._host, self._port = split_address(address)
        self._readiness = readiness
        self._liveness = liveness or Conditions({})
        self._metrics = metrics
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._show_metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> str:
        """Serve; returns the address that it got. Raises SettingsRejected where that cannot be had."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host or None, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsRejected(f"setting http_address: {self._host}:{self._port}: {error.strerror}") from error
        host, port = self._runner.addresses[0][:2]
        return f"{host}:{port}"

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer(self._liveness)

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._readiness)

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        parts = []
        for part in self._metrics():
            parts.append(part)
            await asyncio.sleep(0)
        return web.Response(body=b"".join(parts), headers={"Content-Type": _CONTENT_TYPE})


def _answer(conditions: Conditions) -> web.Response:
    missing = conditions.missing()
    if missing:
        return web.Response(status=503, text=f"not {', not '.join(missing)}\n")
    return web.Response(text="ok\n")
