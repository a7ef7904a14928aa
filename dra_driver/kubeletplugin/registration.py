"""The socket by which the kubelet finds the plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import structlog

from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2, api_pb2_grpc

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The kubelet takes the first entry that it knows, so the newest comes first.
# Source: k8s.io/kubernetes/pkg/kubelet/cm/dra/plugin (1.37).
SUPPORTED_VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")


class Registration(api_pb2_grpc.RegistrationServicer):
    """Tells the kubelet who we are, and hears whether it took us."""

    def __init__(self, *, driver: str, endpoint: Path, on_registered: Callable[[], None]) -> None:
        self._driver = driver
        self._endpoint = endpoint
        self._on_registered = on_registered
        self.registered = asyncio.Event()

    async def GetInfo(
        self, _request: api_pb2.InfoRequest, _context: grpc.aio.ServicerContext[object, object]
    ) -> api_pb2.PluginInfo:
        """Answer the kubelet, which has found the registration socket."""
        return api_pb2.PluginInfo(
            type="DRAPlugin",
            name=self._driver,
            endpoint=str(self._endpoint),
            supported_versions=SUPPORTED_VERSIONS,
        )

    async def NotifyRegistrationStatus(
        self, request: api_pb2.RegistrationStatus, _context: grpc.aio.ServicerContext[object, object]
    ) -> api_pb2.RegistrationStatusResponse:
        """Hear the kubelet's decision. A kubelet that has just started has also deleted our slices."""
        if request.plugin_registered:
            log.info("registered_with_kubelet", driver=self._driver, endpoint=str(self._endpoint))
            self.registered.set()
            self._on_registered()
        else:
            log.error("registration_refused_by_kubelet", driver=self._driver, error=request.error)
        return api_pb2.RegistrationStatusResponse()
