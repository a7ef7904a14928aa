"""The whole plugin in this process, on temporary sockets, with the kubelet's side of the wire to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio

from dra_driver.kubeletplugin import plugin
from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2
from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2 as registration_pb2
from dra_driver.settings import PluginSettings
from tests.support.api import MemoryApi
from tests.support.backend import Gate, MemoryBackend, card
from tests.support.claims import NODE, JsonObject

V1 = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
V1BETA1 = "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin"
REGISTRATION = "pluginregistration.Registration"


class Kubelet:
    """Calls a plugin as the kubelet does: by the names on the wire, over its unix sockets."""

    def __init__(self, settings: PluginSettings) -> None:
        self._settings = settings

    async def get_info(self) -> registration_pb2.PluginInfo:
        """What the plugin says of itself."""
        info: registration_pb2.PluginInfo = await self._call(
            self._settings.registration_socket,
            f"/{REGISTRATION}/GetInfo",
            registration_pb2.InfoRequest(),
            registration_pb2.PluginInfo,
        )
        return info

    async def notify(self, *, registered: bool, error: str = "") -> None:
        """Tell the plugin whether it was taken."""
        await self._call(
            self._settings.registration_socket,
            f"/{REGISTRATION}/NotifyRegistrationStatus",
            registration_pb2.RegistrationStatus(plugin_registered=registered, error=error),
            registration_pb2.RegistrationStatusResponse,
        )

    async def prepare(self, *claims: JsonObject, service: str = V1) -> dict[str, Any]:
        """Prepare a pod's claims; the answers by claim name."""
        request = api_pb2.NodePrepareResourcesRequest(claims=[wire_claim(claim) for claim in claims])
        response = await self._call(
            self._settings.dra_socket,
            f"/{service}/NodePrepareResources",
            request,
            api_pb2.NodePrepareResourcesResponse,
        )
        return _by_name(claims, response.claims)

    async def unprepare(self, *claims: JsonObject, service: str = V1) -> dict[str, Any]:
        """Unprepare a pod's claims; the answers by claim name."""
        request = api_pb2.NodeUnprepareResourcesRequest(claims=[wire_claim(claim) for claim in claims])
        response = await self._call(
            self._settings.dra_socket,
            f"/{service}/NodeUnprepareResources",
            request,
            api_pb2.NodeUnprepareResourcesResponse,
        )
        return _by_name(claims, response.claims)

    async def _call(self, socket: Path, method: str, request: Any, answer: Any) -> Any:
        async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
            call = channel.unary_unary(
                method, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
            )
            return await call(request, timeout=45)


class Plugin:
    """One node: its folders, its API server, its cards, and the plugin on them."""

    def __init__(self, folder: Path, *, pod_uid: str = "") -> None:
        shim = folder / "libvgpu.so"
        shim.write_bytes(b"\x7fELF the library")
        self.folder = folder
        self.api = MemoryApi(node=NODE)
        self.backend = MemoryBackend(card(0), card(1))
        self.settings = PluginSettings(
            node_name=NODE,
            kubelet_root=folder / "kubelet",
            state_folder=folder / "state",
            cdi_folder=folder / "cdi",
            shim_library=shim,
            scan_seconds=0.1,
            pod_uid=pod_uid,
        )
        self.kubelet = Kubelet(self.settings)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def successor(self, pod_uid: str) -> Plugin:
        """Another plugin for the same node, as an update brings it."""
        other = Plugin(self.folder, pod_uid=pod_uid)
        other.api, other.backend = self.api, self.backend
        return other

    @property
    def dra_socket(self) -> Path:
        """Where the kubelet calls."""
        return self.settings.dra_socket

    @property
    def devices(self) -> list[str]:
        """The published devices."""
        return [device["name"] for wire in self.api.slices.values() for device in wire["spec"]["devices"]]

    def changed(self, **settings: Any) -> PluginSettings:
        """The settings with some changed, for the next start."""
        return dataclasses.replace(self.settings, **settings)

    def begin(self) -> asyncio.Task[None]:
        """Start it; the task is its whole life."""
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(
            plugin.run(self.settings, self.api, {"nvidia": self.backend}, self._stop), name="plugin"
        )
        return self._task

    def end(self) -> None:
        """Ask it to stop, as SIGTERM does."""
        self._stop.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it until it has published and watches; and stop it, and wait until it has."""
        watches = self.api.watches_opened
        task = self.begin()
        try:
            published = asyncio.create_task(
                self.api.until(lambda: self.devices == ["gpu-0", "gpu-1"] and self.api.watches_opened > watches)
            )
            await asyncio.wait({task, published}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                published.cancel()
                task.result()
            await published
            yield
        finally:
            self.end()
            await task

    async def abandon_prepare(self, claim: JsonObject, gate: Gate) -> None:
        """Call, and go away once the work has begun."""
        call = asyncio.create_task(self.kubelet.prepare(claim))
        assert await asyncio.to_thread(gate.reached.wait, 30)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call

    def specs(self) -> set[str]:
        """The CDI files of claims."""
        return {path.name for path in self.settings.cdi_folder.glob("*-claim-*.json")}


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets, which take 107 bytes in all."""
    with tempfile.TemporaryDirectory(prefix="hami-") as name:
        yield Path(name)


def wire_claim(claim: JsonObject) -> api_pb2.Claim:
    """A claim as the kubelet names it."""
    metadata = claim["metadata"]
    return api_pb2.Claim(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def _by_name(claims: tuple[JsonObject, ...], answers: Any) -> dict[str, Any]:
    names = {claim["metadata"]["uid"]: claim["metadata"]["name"] for claim in claims}
    assert set(answers) == set(names), "the kubelet fails on claims that it did not ask for, and on missing ones"
    return {names[uid]: answers[uid] for uid in names}
