"""Two plugins side by side, as a rolling update has them: never none, never at odds, and the dead are buried."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dra_driver.configuration import Cards
from dra_driver.errors import SettingsRejected
from dra_driver.kubeletplugin import presence
from dra_driver.settings import LONGEST_SOCKET_PATH
from tests.kubelet.plugin import Kubelet, Plugin
from tests.kubelet.test_life import leave_socket
from tests.support.backend import Gate
from tests.support.claims import JsonObject, allocated, share

OLD, NEW = "11111111-aaaa-bbbb-cccc-000000000001", "22222222-aaaa-bbbb-cccc-000000000002"
BIG = [allocated(f"big-{n}", share("gpu", "gpu-0", memory="10Gi", cores="0", share_id=f"b{n}")) for n in range(2)]


@pytest.fixture
def old(plugin: Plugin) -> Plugin:
    return plugin.successor(OLD)


@pytest.fixture
def new(old: Plugin) -> Plugin:
    return old.successor(NEW)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - files and other tasks have no event to wait for
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(one: Plugin) -> AsyncIterator[asyncio.Task[None]]:
    """Run it until its registration answers; the test may end it, otherwise it is ended."""
    task = one.begin()
    try:
        await until(lambda: task.done() or one.settings.registration_socket.is_socket())
        if task.done():
            task.result()
        await one.kubelet.get_info()
        yield task
    finally:
        one.end()
        await task


def small(number: int) -> JsonObject:
    device = f"gpu-{number % 2}"
    return allocated(f"small-{number}", share("gpu", device, memory="1Gi", cores="1", share_id=f"s{number}"))


def current(*plugins: Plugin) -> Kubelet:
    """Whom the kubelet calls: the plugin that registered last, of those whose registration is there."""
    registered = [one for one in plugins if one.settings.registration_socket.exists()]
    assert registered, "a moment without a plugin"
    return registered[-1].kubelet


async def test_each_instance_has_sockets_of_its_own(old: Plugin, new: Plugin) -> None:
    async with serving(old), serving(new):
        for one, uid in ((old, OLD), (new, NEW)):
            assert one.dra_socket.name == f"dra-{uid}.sock"
            assert one.settings.registration_socket.name == f"vgpu.hami.io-{uid}-reg.sock"
            assert (await one.kubelet.get_info()).endpoint == str(one.dra_socket)


async def test_no_call_fails_while_one_plugin_follows_another(old: Plugin, new: Plugin) -> None:
    done: list[str] = []
    over = asyncio.Event()

    async def stream() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            wire = small(number)
            old.api.put_claim(wire)
            answer = (await current(old, new).prepare(wire))[f"small-{number}"]
            assert (answer.error, len(answer.devices)) == ("", 1)
            if number >= 5:
                gone = small(number - 5)
                name = gone["metadata"]["name"]
                assert (await current(old, new).unprepare(gone))[name].error == ""
            done.append(wire["metadata"]["name"])

    async def at_least(number: int) -> None:
        wanted = len(done) + number
        await until(lambda: len(done) >= wanted or streaming.done())

    async with serving(old) as first:
        streaming = asyncio.create_task(stream())
        await at_least(10)
        async with serving(new):
            await at_least(10)
            old.end()
            await first
            await at_least(10)
            over.set()
            await streaming
            assert len(new.specs()) == 5
            assert not old.dra_socket.exists()
            assert not old.settings.registration_socket.exists()


async def test_of_two_claims_for_the_last_part_of_a_card_one_wins_whoever_is_asked(old: Plugin, new: Plugin) -> None:
    for wire in BIG:
        old.api.put_claim(wire)
    async with serving(old), serving(new):
        calls = [asyncio.create_task(one.kubelet.prepare(wire)) for one, wire in zip((old, new), BIG, strict=True)]
        won, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert len(won) == 1
        winner = calls.index(won.pop())
        assert calls[winner].result()[f"big-{winner}"].error == ""
        # The loser waits for room, which the other plugin makes.
        assert (await old.kubelet.unprepare(BIG[winner]))[f"big-{winner}"].error == ""
        assert (await calls[1 - winner])[f"big-{1 - winner}"].error == ""
        assert len(new.specs()) == 1


async def test_what_one_prepared_the_other_answers_and_takes_back(old: Plugin, new: Plugin) -> None:
    old.api.put_claim(small(0))
    async with serving(old), serving(new):
        first = await old.kubelet.prepare(small(0))
        assert await new.kubelet.prepare(small(0)) == first
        assert len(old.backend.prepare_calls) == 1
        await new.kubelet.unprepare(small(0))
        assert new.specs() == set()
        await old.kubelet.prepare(small(0))
        assert len(old.specs()) == 1


async def test_a_call_of_the_old_plugin_is_finished_before_the_new_one_opens_its_state(
    old: Plugin, new: Plugin
) -> None:
    old.api.put_claim(small(0))
    gate = Gate()
    async with serving(old):
        old.backend.on_prepare = gate.hold
        call = asyncio.create_task(old.kubelet.prepare(small(0)))
        assert await asyncio.to_thread(gate.reached.wait, 30)
        starting = new.begin()
        await asyncio.sleep(0.2)
        assert not new.dra_socket.exists(), "it would have taken what is in flight for what a crash has left"
        gate.open()
        assert (await call)["small-0"].error == ""
        new.end()
        await starting


async def test_the_library_of_a_plugin_that_lives_is_not_taken_away(old: Plugin, new: Plugin) -> None:
    old.api.put_claim(small(0))
    async with serving(old):
        new.settings.shim_library.write_bytes(b"\x7fELF a newer library")
        async with serving(new):
            (device,) = (await old.kubelet.prepare(small(0)))["small-0"].devices
            shim = next(name for name in device.cdi_device_ids if "/shim=" in name).partition("=")[2]
            assert (new.settings.cdi_folder / f"vgpu.hami.io-shim-{shim}.json").exists()


async def test_sockets_of_a_plugin_that_was_killed_are_removed_by_the_next(old: Plugin, new: Plugin) -> None:
    sockets = (old.dra_socket, old.settings.registration_socket)
    for path in sockets:
        path.parent.mkdir(parents=True)
        leave_socket(path)
    dead = old.settings.plugin_folder / f"instance-{OLD}.lock"
    dead.write_text("".join(f"{path}\n" for path in sockets))
    async with serving(new):
        assert not dead.exists()
        assert not any(path.exists() for path in sockets)
    assert not list(new.settings.plugin_folder.glob("instance*.lock"))


async def test_a_second_plugin_of_the_same_name_is_a_wrong_setting(
    old: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_PATIENCE_SECONDS", 0.1)
    async with serving(old):
        with pytest.raises(SettingsRejected, match="pod_uid"):
            await old.successor(OLD).begin()
        assert (await old.kubelet.get_info()).endpoint == str(old.dra_socket)


def test_a_name_that_would_be_too_long_for_a_socket_is_hashed(old: Plugin) -> None:
    room = LONGEST_SOCKET_PATH - len(str(old.settings.plugin_folder.parent)) - 2 - len(f"dra-{OLD}.sock")
    settings = replace(old.settings, driver_name="d" * min(room + 1, 63), kubelet_root=old.folder / ("k" * 20))
    other = replace(settings, pod_uid=NEW)
    for path in (settings.dra_socket, settings.registration_socket):
        assert len(str(path).encode()) <= LONGEST_SOCKET_PATH
        assert OLD not in path.name
    assert settings.dra_socket != other.dra_socket
    assert Path(settings.registration_socket.name).suffix == ".sock"


def published(one: Plugin) -> list[JsonObject]:
    return [device for wire in one.api.slices.values() for device in wire["spec"]["devices"]]


def tenants(one: Plugin) -> set[str]:
    """How many tenants each published card takes."""
    return {device["capacity"]["shares"]["value"] for device in published(one)}


async def test_the_younger_plugin_alone_decides_what_is_published_and_the_older_takes_over_when_it_is_gone(
    old: Plugin, new: Plugin
) -> None:
    new.settings = new.changed(cards=Cards(shares=3))
    async with serving(old):
        await until(lambda: tenants(old) == {"10"})
        async with serving(new):
            await until(lambda: tenants(old) == {"3"})
            before = len(old.api.writes())
            # Both see it: were they at odds, they would write against each other from here on.
            old.backend.devices = tuple(replace(one, unhealthy="ill") for one in old.backend.devices)
            await until(lambda: all("taints" in device for device in published(old)))
            old.backend.devices = tuple(replace(one, unhealthy="") for one in old.backend.devices)
            await until(lambda: not any("taints" in device for device in published(old)))
            assert tenants(old) == {"3"}
            assert len(old.api.writes()) == before + 2
        await until(lambda: tenants(old) == {"10"})
