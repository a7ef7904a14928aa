"""Whether the plugin can do its work: one answer for gRPC and for HTTP.

Alive is a plugin that answers at all: one whose loops have ended has ended itself. Ready is one that the kubelet calls
and whose cards are published, so that an update takes the next node only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from dra_driver.kubeletplugin.pb.grpc_health.v1 import health_pb2, health_pb2_grpc

LIVENESS = "liveness"
READINESS = "readiness"
_WATCH_SECONDS = 1.0

Status = health_pb2.HealthCheckResponse.ServingStatus


class Readiness:
    """What must be true for the plugin to be ready, by name."""

    def __init__(self, conditions: Mapping[str, Callable[[], bool]]) -> None:
        self._conditions = dict(conditions)

    def missing(self) -> tuple[str, ...]:
        """Name the conditions that do not hold now."""
        return tuple(name for name, holds in self._conditions.items() if not holds())


class HealthService(health_pb2_grpc.HealthServicer):
    """grpc.health.v1. Services: "" and `readiness` for work, `liveness` for being there."""

    def __init__(self, readiness: Readiness) -> None:
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
