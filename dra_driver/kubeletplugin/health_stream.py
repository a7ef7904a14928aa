"""Tells the kubelet how the devices are, so that pods that hold shares see it in their status (KEP-4680).

Every message is the whole list. It comes at every change, and again in between, because the kubelet takes a device
of which it hears nothing for unknown. Each device carries the time of the last look at its card: when a vendor's
library hangs, that time stands still, and the kubelet draws the right conclusion.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from dra_driver.kubeletplugin.inventory import UNAVAILABLE
from dra_driver.kubeletplugin.pb.dra_health.v1 import api_pb2, api_pb2_grpc
from dra_driver.kubeletplugin.publish import Pool
from drivers.model import Device

_ALPHA_SERVICE = "v1alpha1.DRAResourceHealth"
_REPEAT_SECONDS = 10.0
# Of the protocol: longer messages are cut, and devices that are not told again in this time are unknown.
_LONGEST_MESSAGE = 1024
_DEFAULT_TIMEOUT_SECONDS = 30


class HealthStream(api_pb2_grpc.DRAResourceHealthServicer):
    """v1.DRAResourceHealth."""

    def __init__(
        self,
        *,
        pools: Callable[[], Sequence[Pool]],
        looked_at: Callable[[], float],
        scan_seconds: float,
        repeat_seconds: float = _REPEAT_SECONDS,
    ) -> None:
        """`looked_at`: when the cards were looked at last, in seconds since the epoch; `scan_seconds`: how often."""
        self._pools = pools
        self._looked_at = looked_at
        self._timeout_seconds = max(_DEFAULT_TIMEOUT_SECONDS, int(scan_seconds * 3))
        self._repeat_seconds = repeat_seconds
        self._news = asyncio.Event()
        self._closed = False

    def changed(self) -> None:
        """Tell all streams that a device may be other than it was."""
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """End all streams: they would outlast any grace."""
        self._closed = True
        self.changed()

    async def NodeWatchResources(
        self, _request: api_pb2.NodeWatchResourcesRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[api_pb2.NodeWatchResourcesResponse]:
        """Stream complete lists."""
        while not self._closed:
            news = self._news
            yield self.report()
            try:
                async with asyncio.timeout(self._repeat_seconds):
                    await news.wait()
            except TimeoutError:
                continue

    def report(self) -> api_pb2.NodeWatchResourcesResponse:
        """Write the list as it is now."""
        return api_pb2.NodeWatchResourcesResponse(
            devices=[self._health(pool.name, device) for pool in self._pools() for device in pool.devices]
        )

    def _health(self, pool: str, device: Device) -> api_pb2.DeviceHealth:
        return api_pb2.DeviceHealth(
            device=api_pb2.DeviceIdentifier(pool_name=pool, device_name=device.name),
            health=_status(device),
            last_updated_time=int(self._looked_at()),
            health_check_timeout_seconds=self._timeout_seconds,
            message=device.unhealthy[:_LONGEST_MESSAGE],
        )


def register(server: grpc.aio.Server, stream: HealthStream) -> None:
    """Serve both versions: v1alpha1 has the same messages under another name."""
    api_pb2_grpc.add_DRAResourceHealthServicer_to_server(stream, server)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "NodeWatchResources": grpc.unary_stream_rpc_method_handler(
            stream.NodeWatchResources,
            request_deserializer=api_pb2.NodeWatchResourcesRequest.FromString,
            response_serializer=api_pb2.NodeWatchResourcesResponse.SerializeToString,
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_ALPHA_SERVICE, handlers),))


def _status(device: Device) -> api_pb2.HealthStatus:
    """Judge a device. One whose vendor does not answer may be as well as ever: nobody knows."""
    if not device.unhealthy:
        return api_pb2.HEALTHY
    return api_pb2.UNKNOWN if device.unhealthy_code == UNAVAILABLE else api_pb2.UNHEALTHY
