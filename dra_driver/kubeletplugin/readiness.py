"""Whether the plugin can do its work: one answer for gRPC and for HTTP.

Alive is a plugin that answers at all: one whose loops have ended has ended itself. Ready is one that the kubelet calls
and whose cards are published, so that an update takes the next node only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from dra_driver.addresses import split_address
from dra_driver.conditions import Conditions
from dra_driver.errors import SettingsRejected
from dra_driver.kubeletplugin.pb.grpc_health.v1 import health_pb2, health_pb2_grpc

LIVENESS = "liveness"
READINESS = "readiness"
_WATCH_SECONDS = 1.0

Status = health_pb2.HealthCheckResponse.ServingStatus


class HealthService(health_pb2_grpc.HealthServicer):
    """grpc.health.v1. Services: "" and `readiness` for work, `liveness` for being there."""

    def __init__(self, readiness: Conditions) -> None:
        self._readiness = readiness
        self._closed = False

    def close(self) -> None:
        """Let watches end."""
        self._closed = True

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Answer once."""
        status = self._status(request.service)
        if status == Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Answer now and at every change."""
        told: Status | None = None
        while not self._closed:
            status = self._status(request.service)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            await asyncio.sleep(_WATCH_SECONDS)

    def _status(self, service: str) -> Status:
        if service == LIVENESS:
            return Status.SERVING
        if service not in ("", READINESS):
            return Status.SERVICE_UNKNOWN
        return Status.NOT_SERVING if self._readiness.missing() else Status.SERVING


class HealthPort:
    """The same on a port: the kubelet's own gRPC probes reach no unix socket."""

    def __init__(self, address: str, service: HealthService) -> None:
        """`address`: host:port; no host means all addresses, port 0 takes a free one."""
        self._host, self._port = split_address(address)
        self._server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(service, self._server)

    async def start(self) -> str:
        """Serve; returns the address that it got. Raises SettingsRejected where that cannot be had."""
        host = self._host or "::"
        try:
            port = self._server.add_insecure_port(f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}")
        except RuntimeError as error:
            address = f"{self._host}:{self._port}"
            raise SettingsRejected(f"setting grpc_health_address: {address}: cannot be bound") from error
        await self._server.start()
        return f"{self._host}:{port}"

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.stop(None)
