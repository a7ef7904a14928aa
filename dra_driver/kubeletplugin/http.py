"""The plugin's small HTTP server: /healthz, /readyz and /metrics, for probes and for Prometheus.

Nothing can be changed through it, and nothing in it names a tenant's objects.
"""

from __future__ import annotations

from aiohttp import web

from dra_driver.errors import SettingsRejected
from dra_driver.kubeletplugin.metrics import CONTENT_TYPE, Metrics
from dra_driver.kubeletplugin.readiness import Readiness
from dra_driver.settings import split_address


class HttpServer:
    """One server on one address."""

    def __init__(self, address: str, *, readiness: Readiness, metrics: Metrics) -> None:
        """`address`: host:port; port 0 takes a free one."""
        self._host, self._port = split_address(address)
        self._readiness = readiness
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
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        missing = self._readiness.missing()
        if missing:
            return web.Response(status=503, text=f"not {', not '.join(missing)}\n")
        return web.Response(text="ok\n")

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})
