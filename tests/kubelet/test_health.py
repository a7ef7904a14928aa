"""Faults of cards on their way to the scheduler (taints) and to the kubelet (the health stream)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from structlog.testing import capture_logs

from dra_driver.errors import SettingsRejected
from dra_driver.kubeletplugin.pb.dra_health.v1 import api_pb2
from dra_driver.kubeletplugin.pb.grpc_health.v1 import health_pb2
from drivers.backend import Fault, Recovery
from drivers.errors import BackendUnavailable
from tests.kubelet.plugin import Plugin
from tests.support.backend import WatchedBackend, card
from tests.support.claims import POOL

XID = Fault(card(1).uuid, "xid-79", "XID 79: the card has fallen off the bus")
SERVICES = ["v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth"]
Told = dict[tuple[str, str], tuple[int, str]]


@pytest.fixture
def backend(plugin: Plugin) -> WatchedBackend:
    """The plugin's cards, watched; the scan comes too late for the test."""
    plugin.settings = plugin.changed(scan_seconds=600.0)
    plugin.backend = WatchedBackend(card(0), card(1))
    return plugin.backend


class Stream:
    """The kubelet's end of a health stream."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def next(self) -> Told:
        """The next complete list."""
        async with asyncio.timeout(20):
            answer: api_pb2.NodeWatchResourcesResponse = await self._call.read()
        return {(d.device.pool_name, d.device.device_name): (d.health, d.message) for d in answer.devices}

    async def until(self, wanted: Callable[[Told], bool]) -> Told:
        """Read until a list is as wanted."""
        while not wanted(told := await self.next()):
            pass
        return told

    async def ended(self) -> bool:
        """Read to the end."""
        async with asyncio.timeout(20):
            while (await self._call.read()) is not grpc.aio.EOF:
                pass
        return True


@contextlib.asynccontextmanager
async def watching(plugin: Plugin, service: str = SERVICES[0]) -> AsyncIterator[Stream]:
    async with grpc.aio.insecure_channel(f"unix://{plugin.dra_socket}") as channel:
        method = channel.unary_stream(
            f"/{service}/NodeWatchResources",
            request_serializer=api_pb2.NodeWatchResourcesRequest.SerializeToString,
            response_deserializer=api_pb2.NodeWatchResourcesResponse.FromString,
        )
        yield Stream(method(api_pb2.NodeWatchResourcesRequest()))


def taints(plugin: Plugin) -> dict[str, list[tuple[str, str, str]]]:
    return {
        device["name"]: [(taint["key"], taint["value"], taint["effect"]) for taint in device.get("taints", [])]
        for wire in plugin.api.slices.values()
        for device in wire["spec"]["devices"]
    }


@pytest.mark.parametrize("service", SERVICES)
async def test_a_stream_begins_with_the_whole_list(plugin: Plugin, service: str) -> None:
    async with plugin.running(), watching(plugin, service) as stream:
        assert await stream.next() == {
            (POOL, "gpu-0"): (api_pb2.HEALTHY, ""),
            (POOL, "gpu-1"): (api_pb2.HEALTHY, ""),
        }


async def test_a_fault_is_told_in_the_stream_and_tainted_without_waiting_for_a_scan(
    plugin: Plugin, backend: WatchedBackend
) -> None:
    async with plugin.running(), watching(plugin) as stream:
        await stream.next()
        await asyncio.to_thread(backend.hear, XID)
        assert await stream.next() == {
            (POOL, "gpu-0"): (api_pb2.HEALTHY, ""),
            (POOL, "gpu-1"): (api_pb2.UNHEALTHY, XID.reason),
        }
        await plugin.api.until(lambda: bool(taints(plugin)["gpu-1"]))
        assert taints(plugin) == {"gpu-0": [], "gpu-1": [("vgpu.hami.io/unhealthy", "xid-79", "NoSchedule")]}


async def test_a_recovery_clears_the_taint_and_is_told(plugin: Plugin, backend: WatchedBackend) -> None:
    async with plugin.running(), watching(plugin) as stream:
        await asyncio.to_thread(backend.hear, XID)
        await plugin.api.until(lambda: bool(taints(plugin)["gpu-1"]))
        await asyncio.to_thread(backend.hear, Recovery(XID.device_uuid))
        await plugin.api.until(lambda: not taints(plugin)["gpu-1"])
        await stream.until(lambda told: told[POOL, "gpu-1"] == (api_pb2.HEALTHY, ""))


async def test_a_taint_evicts_where_that_is_configured(plugin: Plugin, backend: WatchedBackend) -> None:
    plugin.settings = plugin.changed(unhealthy_effect="NoExecute")
    async with plugin.running():
        await asyncio.to_thread(backend.hear, XID)
        await plugin.api.until(lambda: bool(taints(plugin)["gpu-1"]))
        assert taints(plugin)["gpu-1"] == [("vgpu.hami.io/unhealthy", "xid-79", "NoExecute")]


async def test_a_fault_is_over_after_the_quiet_time(plugin: Plugin, backend: WatchedBackend) -> None:
    plugin.settings = plugin.changed(scan_seconds=0.1, fault_quiet_seconds=0.5)
    async with plugin.running():
        await asyncio.to_thread(backend.hear, XID)
        await plugin.api.until(lambda: bool(taints(plugin)["gpu-1"]))
        await plugin.api.until(lambda: not taints(plugin)["gpu-1"])


async def test_a_restart_does_not_forgive(plugin: Plugin, backend: WatchedBackend) -> None:
    async with plugin.running():
        await asyncio.to_thread(backend.hear, XID)
        await plugin.api.until(lambda: bool(taints(plugin)["gpu-1"]))
    (before,) = [d["taints"] for wire in plugin.api.slices.values() for d in wire["spec"]["devices"] if "taints" in d]
    async with plugin.running():
        (after,) = [
            d["taints"] for wire in plugin.api.slices.values() for d in wire["spec"]["devices"] if "taints" in d
        ]
        assert after == before, "timeAdded too"


async def test_devices_of_a_vendor_that_does_not_answer_are_unknown(plugin: Plugin) -> None:
    async with plugin.running(), watching(plugin) as stream:
        await stream.next()
        plugin.backend.unavailable = BackendUnavailable("the driver is gone")
        told = await stream.until(lambda told: told[POOL, "gpu-0"][0] != api_pb2.HEALTHY)
        assert set(told.values()) == {(api_pb2.UNKNOWN, "the driver is gone")}


async def test_a_watch_that_crashes_does_not_take_the_plugin_with_it(plugin: Plugin, backend: WatchedBackend) -> None:
    backend.fail_watch = RuntimeError("the library did something odd")
    async with plugin.running():
        assert plugin.devices == ["gpu-0", "gpu-1"]
    assert not backend.watched.is_set()


async def test_open_streams_do_not_hold_up_the_end(plugin: Plugin) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with plugin.running():
            stream = await stack.enter_async_context(watching(plugin))
            await stream.next()
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 20
        assert await stream.ended()


# Probes over gRPC.


async def probe(plugin: Plugin, service: str = "", *, at: str = "") -> int:
    async with grpc.aio.insecure_channel(at or f"unix://{plugin.dra_socket}") as channel:
        method = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await method(health_pb2.HealthCheckRequest(service=service), timeout=20)
        return int(answer.status)


async def test_the_plugin_is_ready_once_the_kubelet_has_taken_it(plugin: Plugin) -> None:
    async with plugin.running():
        assert await probe(plugin, "liveness") == health_pb2.HealthCheckResponse.SERVING
        assert await probe(plugin) == await probe(plugin, "readiness") == health_pb2.HealthCheckResponse.NOT_SERVING
        await plugin.kubelet.notify(registered=True)
        assert await probe(plugin) == await probe(plugin, "readiness") == health_pb2.HealthCheckResponse.SERVING


async def test_the_kubelets_own_probes_find_it_on_a_port(plugin: Plugin) -> None:
    plugin.settings = plugin.changed(grpc_health_address="127.0.0.1:0")
    with capture_logs() as logs:
        async with plugin.running():
            (address,) = [entry["address"] for entry in logs if entry["event"] == "grpc_health_serving"]
            assert await probe(plugin, "liveness", at=address) == health_pb2.HealthCheckResponse.SERVING
            assert await probe(plugin, at=address) == health_pb2.HealthCheckResponse.NOT_SERVING
            await plugin.kubelet.notify(registered=True)
            assert await probe(plugin, at=address) == health_pb2.HealthCheckResponse.SERVING


async def test_a_port_that_cannot_be_had_is_a_wrong_setting(plugin: Plugin) -> None:
    plugin.settings = plugin.changed(grpc_health_address="192.0.2.1:1")
    with pytest.raises(SettingsRejected, match="grpc_health_address"):
        await plugin.begin()


async def test_a_probe_for_something_else_is_not_found(plugin: Plugin) -> None:
    async with plugin.running():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await probe(plugin, "somebody.else")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watching_probe_hears_of_every_change_and_of_the_end(plugin: Plugin) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with plugin.running():
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"unix://{plugin.dra_socket}"))
            method = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            call: Any = method(health_pb2.HealthCheckRequest(), timeout=60)
            assert (await call.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            await plugin.kubelet.notify(registered=True)
            assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await call.read() is grpc.aio.EOF
