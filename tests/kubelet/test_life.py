"""The plugin's life as the kubelet sees it: sockets, registration, slices, and the way out."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import pytest

from dra_driver.errors import SettingsRejected, ShimMissing
from dra_driver.kube.errors import KubeError
from drivers.errors import BackendUnavailable
from tests.kubelet.plugin import Plugin
from tests.support.api import SLICES
from tests.support.backend import Gate, card
from tests.support.claims import allocated, share

TRAIN = allocated("train", share("gpu", "gpu-0", share_id="s1"))


async def test_the_plugin_says_of_itself_what_the_kubelet_looks_for(plugin: Plugin) -> None:
    async with plugin.running():
        info = await plugin.kubelet.get_info()
        assert (info.type, info.name) == ("DRAPlugin", "vgpu.hami.io")
        assert info.endpoint == str(plugin.dra_socket)
        assert plugin.dra_socket.is_socket()
        assert list(info.supported_versions) == [
            "v1.DRAPlugin",
            "v1beta1.DRAPlugin",
            "v1.DRAResourceHealth",
            "v1alpha1.DRAResourceHealth",
        ]


async def test_slices_that_the_kubelet_wipes_come_back(plugin: Plugin) -> None:
    async with plugin.running():
        plugin.api.wipe_slices()
        await plugin.api.until(lambda: plugin.devices == ["gpu-0", "gpu-1"], seconds=5)


async def test_a_registration_brings_the_slices_back_though_the_watch_says_nothing(plugin: Plugin) -> None:
    async with plugin.running():
        await plugin.api.until(lambda: plugin.api.watches_opened >= 1)
        plugin.api.stalled = True
        plugin.api.wipe_slices()
        await plugin.kubelet.notify(registered=True)
        await plugin.api.until(lambda: plugin.devices == ["gpu-0", "gpu-1"], seconds=5)


async def test_a_refused_registration_is_heard_and_the_plugin_goes_on(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    async with plugin.running():
        await plugin.kubelet.notify(registered=False, error="another plugin has the name")
        assert (await plugin.kubelet.prepare(TRAIN))["train"].error == ""


async def test_a_change_of_the_cards_is_published(plugin: Plugin) -> None:
    async with plugin.running():
        plugin.backend.devices = (card(0), card(1, unhealthy="lost"), card(2))
        await plugin.api.until(lambda: plugin.devices == ["gpu-0", "gpu-1", "gpu-2"])


async def test_a_vendor_whose_library_stops_answering_keeps_its_cards_tainted(plugin: Plugin) -> None:
    def tainted() -> list[bool]:
        return [bool(device.get("taints")) for wire in plugin.api.slices.values() for device in wire["spec"]["devices"]]

    async with plugin.running():
        plugin.backend.unavailable = BackendUnavailable("libnvidia-ml.so.1: no answer")
        await plugin.api.until(lambda: tainted() == [True, True])
        plugin.backend.unavailable = None
        await plugin.api.until(lambda: tainted() == [False, False])


async def test_a_node_whose_vendor_never_answers_publishes_an_empty_pool(plugin: Plugin) -> None:
    plugin.backend.unavailable = BackendUnavailable("libnvidia-ml.so.1: cannot open")
    task = plugin.begin()
    await plugin.api.until(lambda: len(plugin.api.slices) == 1)
    assert plugin.devices == []
    plugin.backend.unavailable = None
    await plugin.api.until(lambda: plugin.devices == ["gpu-0", "gpu-1"])
    plugin.end()
    await task


async def test_an_api_server_that_refuses_slices_does_not_keep_claims_from_being_prepared(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    plugin.api.fail_next("GET", SLICES, KubeError("GET", 503, "busy"))
    async with plugin.running():
        assert (await plugin.kubelet.prepare(TRAIN))["train"].error == ""


# The way in.


def leave_socket(path: Path) -> None:
    """Leave what a process leaves that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()


@pytest.mark.parametrize("leave", [leave_socket, Path.touch])
async def test_files_of_a_dead_process_are_replaced(plugin: Plugin, leave: Callable[[Path], None]) -> None:
    for path in (plugin.dra_socket, plugin.settings.registration_socket):
        path.parent.mkdir(parents=True)
        leave(path)
    async with plugin.running():
        assert (await plugin.kubelet.get_info()).name == "vgpu.hami.io"
        assert await plugin.kubelet.prepare() == {}


async def test_nothing_is_published_or_served_without_the_library(plugin: Plugin) -> None:
    plugin.settings.shim_library.unlink()
    with pytest.raises(ShimMissing):
        await plugin.begin()
    assert plugin.api.requests == []
    assert not plugin.dra_socket.exists()
    assert not plugin.settings.registration_socket.exists()


async def test_a_plugin_on_a_damaged_checkpoint_answers_as_before(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    async with plugin.running():
        before = (await plugin.kubelet.prepare(TRAIN))["train"]
    (plugin.settings.plugin_folder / "checkpoint.json").write_text("damaged")
    async with plugin.running():
        assert (await plugin.kubelet.prepare(TRAIN))["train"] == before
        assert (await plugin.kubelet.unprepare(TRAIN))["train"].error == ""
        assert plugin.specs() == set()


async def test_a_socket_path_that_the_kernel_would_not_take_is_a_wrong_setting(plugin: Plugin) -> None:
    plugin.settings = dataclasses.replace(plugin.settings, kubelet_root=plugin.folder / ("x" * 100))
    with pytest.raises(SettingsRejected, match="longer than 107 bytes"):
        await plugin.begin()


# The way out.


async def test_both_sockets_are_gone_after_the_end_the_registration_first(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []
    unlink = Path.unlink

    def recorded(self: Path, missing_ok: bool = False) -> None:
        removed.append(self)
        unlink(self, missing_ok)

    async with plugin.running():
        sockets = [plugin.settings.registration_socket, plugin.dra_socket]
        assert all(path.is_socket() for path in sockets)
        monkeypatch.setattr(Path, "unlink", recorded)
    assert [path for path in removed if path in sockets] == sockets
    assert not any(path.exists() for path in sockets)


async def test_slices_stay_after_the_end(plugin: Plugin) -> None:
    async with plugin.running():
        pass
    assert plugin.devices == ["gpu-0", "gpu-1"]


async def test_a_call_in_flight_is_answered_before_the_end(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    gate = Gate()
    plugin.backend.on_prepare = gate.hold
    async with plugin.running():
        call = asyncio.create_task(plugin.kubelet.prepare(TRAIN))
        await asyncio.to_thread(gate.reached.wait, 30)
        plugin.end()
        await until_gone(plugin.settings.registration_socket)
        gate.open()
        assert (await call)["train"].error == ""
    assert plugin.specs()


async def test_work_whose_caller_went_away_is_finished_before_the_end(plugin: Plugin) -> None:
    plugin.api.put_claim(TRAIN)
    gate = Gate()
    plugin.backend.on_prepare = gate.hold
    task = plugin.begin()
    await plugin.api.until(lambda: plugin.devices == ["gpu-0", "gpu-1"])
    await plugin.abandon_prepare(TRAIN, gate)
    plugin.end()
    await until_gone(plugin.dra_socket)
    assert not task.done()
    gate.open()
    await task
    assert plugin.specs()


async def test_nobody_answers_after_the_end(plugin: Plugin) -> None:
    async with plugin.running():
        pass
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plugin.kubelet.get_info()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_publisher_that_crashes_ends_the_plugin_and_leaves_no_socket(plugin: Plugin) -> None:
    plugin.api.fail_next("GET", SLICES, ZeroDivisionError("a mistake of ours"))
    with pytest.raises(ZeroDivisionError):
        await plugin.begin()
    assert not plugin.dra_socket.exists()
    assert not plugin.settings.registration_socket.exists()


async def until_gone(path: Path) -> None:
    """Wait until a file is no more, beside the event loop."""
    assert await asyncio.to_thread(_gone, path), f"{path} is still there"


def _gone(path: Path) -> bool:
    deadline = time.monotonic() + 30
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not path.exists()
