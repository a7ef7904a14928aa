"""Keeping the slices true on a server where anything may happen to them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from dra_driver.kube.errors import Conflict, Expired, KubeError
from dra_driver.kube.nodes import read_node
from dra_driver.kube.slices import ApiSlices
from dra_driver.kubeletplugin import publisher as module
from dra_driver.kubeletplugin.metrics import Metrics
from dra_driver.kubeletplugin.publish import Pool
from dra_driver.kubeletplugin.publisher import Publisher
from drivers.model import Device
from tests.support.api import SLICES, JsonObject, MemoryApi
from tests.support.backend import card, cards
from tests.support.claims import DRIVER, NODE, POOL


class Publishing:
    """A publisher at work on a server in memory."""

    def __init__(self) -> None:
        self.api = MemoryApi(node=NODE)
        self.devices: tuple[Device, ...] = cards(2)
        self.publisher = Publisher(
            slices=ApiSlices(self.api, driver=DRIVER, node=NODE),
            node=functools.partial(read_node, self.api, NODE),
            pools=lambda: (Pool(POOL, DRIVER, NODE, self.devices),),
        )

    def shown(self) -> list[str]:
        """The published devices, unhealthy ones with a mark."""
        wires = [wire for _, wire in sorted(self.api.slices.items()) if wire["spec"]["driver"] == DRIVER]
        return [
            device["name"] + ("!" if device.get("taints") else "")
            for wire in wires
            for device in wire["spec"]["devices"]
        ]

    async def until_shown(self, *names: str) -> None:
        await self.api.until(lambda: self.shown() == list(names))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.publisher.run())
        try:
            async with asyncio.timeout(30):
                await self.publisher.published.wait()
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch) -> Publishing:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    return Publishing()


async def settle() -> None:
    """Let everything that is ready to run do so."""
    for _ in range(50):
        await asyncio.sleep(0)


def other_slice(name: str, **spec: object) -> JsonObject:
    place = {"name": "somebody", "generation": 1, "resourceSliceCount": 1}
    return {"metadata": {"name": name}, "spec": {"driver": DRIVER, "nodeName": NODE, "pool": place, **spec}}


async def test_cards_are_published_with_the_node_as_owner(publishing: Publishing) -> None:
    async with publishing.running():
        assert publishing.shown() == ["gpu-0", "gpu-1"]
        (wire,) = publishing.api.slices.values()
        assert wire["metadata"]["ownerReferences"][0]["uid"] == publishing.api.node_uid()


async def test_after_the_first_writes_nothing_more_is_written(publishing: Publishing) -> None:
    async with publishing.running():
        for _ in range(5):
            publishing.publisher.refresh()
            await settle()
        assert publishing.api.writes() == ["POST"]


async def test_a_publisher_that_starts_again_finds_its_slices_and_leaves_them(publishing: Publishing) -> None:
    async with publishing.running():
        pass
    before = dict(publishing.api.slices)
    async with publishing.running():
        await publishing.api.until(lambda: publishing.api.watches_opened == 2)
        await settle()
        assert publishing.api.slices == before
        assert publishing.api.writes() == ["POST"]


async def test_slices_that_are_wiped_come_back(publishing: Publishing) -> None:
    async with publishing.running():
        for _ in range(3):
            publishing.api.wipe_slices()
            await publishing.until_shown("gpu-0", "gpu-1")


async def test_a_slice_that_somebody_has_changed_is_put_right(publishing: Publishing) -> None:
    async with publishing.running():
        (name,) = publishing.api.slices

        def spoil(wire: JsonObject) -> None:
            del wire["spec"]["devices"][0]

        publishing.api.edit_slice(name, spoil)
        await publishing.until_shown("gpu-0", "gpu-1")
        assert publishing.api.slices.keys() == {name}


async def test_a_change_of_the_cards_is_published(publishing: Publishing) -> None:
    async with publishing.running():
        publishing.devices = (card(0), card(1, unhealthy="lost"), card(2))
        publishing.publisher.refresh()
        await publishing.until_shown("gpu-0", "gpu-1!", "gpu-2")


async def test_slices_of_pools_that_are_no_more_are_deleted(publishing: Publishing) -> None:
    publishing.api.add_slice(other_slice("old"))
    async with publishing.running():
        assert "old" not in publishing.api.slices


async def test_slices_of_other_nodes_and_drivers_are_left_alone(publishing: Publishing) -> None:
    publishing.api.add_slice(other_slice("other-node", nodeName="node-b"))
    publishing.api.add_slice(other_slice("other-driver", driver="nic.example.com"))
    async with publishing.running():
        await settle()
        assert {"other-node", "other-driver"} < publishing.api.slices.keys()


async def test_a_watch_that_ends_in_order_is_begun_again(publishing: Publishing) -> None:
    async with publishing.running():
        await publishing.api.until(lambda: publishing.api.watches_opened >= 1)
        publishing.api.break_watches()
        await publishing.api.until(lambda: publishing.api.watches_opened == 2)
        publishing.api.wipe_slices()
        await publishing.until_shown("gpu-0", "gpu-1")


@pytest.mark.parametrize(
    "error", [KubeError("WATCH", 0, "connection reset"), Expired("WATCH", 410, "too old"), KubeError("WATCH", 500, "x")]
)
async def test_what_was_missed_while_a_watch_was_broken_is_made_good(publishing: Publishing, error: KubeError) -> None:
    async with publishing.running():
        await publishing.api.until(lambda: publishing.api.watches_opened >= 1)
        publishing.api.stalled = True
        publishing.api.wipe_slices()
        publishing.api.stalled = False
        publishing.api.forget_history()
        publishing.api.break_watches(error)
        await publishing.until_shown("gpu-0", "gpu-1")


async def test_relisting_finds_what_a_stalled_watch_has_not_told(publishing: Publishing) -> None:
    async with publishing.running():
        await publishing.api.until(lambda: publishing.api.watches_opened >= 1)
        publishing.api.stalled = True
        publishing.api.wipe_slices()
        publishing.publisher.relist()
        await publishing.until_shown("gpu-0", "gpu-1")


async def test_a_slice_that_is_deleted_before_its_creation_is_answered_comes_back(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ApiSlices.create

    async def slow_create(self: ApiSlices, wire: JsonObject) -> JsonObject:
        answer = await create(self, wire)
        if len(publishing.api.writes()) == 1:
            publishing.api.wipe_slices()
            await settle()
        return answer

    monkeypatch.setattr(ApiSlices, "create", slow_create)
    async with publishing.running():
        await publishing.until_shown("gpu-0", "gpu-1")


@pytest.mark.parametrize("method", ["GET", "POST", "WATCH"])
@pytest.mark.parametrize(
    "error", [KubeError("x", 0, "refused"), KubeError("x", 503, "busy"), Conflict("x", 409, "changed")]
)
async def test_an_error_is_logged_and_tried_again(publishing: Publishing, method: str, error: KubeError) -> None:
    publishing.api.fail_next(method, SLICES, error)
    with capture_logs() as logs:
        async with publishing.running():
            await publishing.until_shown("gpu-0", "gpu-1")
            await publishing.api.until(lambda: publishing.api.watches_opened >= 1)
            await settle()
    assert [entry["error"] for entry in logs if entry["event"] == "publishing_failed"] == [str(error)]


async def test_a_node_that_is_not_there_yet_is_waited_for(publishing: Publishing) -> None:
    publishing.api.fail_next("GET", "/api/v1/nodes/", KubeError("GET", 404, "not found"))
    async with publishing.running():
        await publishing.until_shown("gpu-0", "gpu-1")


async def test_a_slice_that_changed_in_between_is_read_again(publishing: Publishing) -> None:
    async with publishing.running():
        await publishing.api.until(lambda: publishing.api.watches_opened >= 1)
        publishing.api.stalled = True
        (name,) = publishing.api.slices
        publishing.api.edit_slice(name, lambda wire: wire["metadata"].update(labels={"seen": "yes"}))
        publishing.api.stalled = False
        publishing.devices = (card(0, unhealthy="lost"),)
        publishing.publisher.refresh()
        await publishing.until_shown("gpu-0!")
        assert publishing.api.slices[name]["metadata"]["labels"] == {"seen": "yes"}


async def test_a_feature_gate_that_is_off_is_named_once_and_makes_no_hot_loop(publishing: Publishing) -> None:
    publishing.api.dropped_fields = frozenset({"allowMultipleAllocations", "requestPolicy"})
    with capture_logs() as logs:
        async with publishing.running():
            for _ in range(5):
                publishing.publisher.refresh()
                await settle()
            assert publishing.api.writes() == ["POST"]
    (entry,) = [entry for entry in logs if entry["event"] == "server_dropped_fields"]
    assert entry["feature_gates"] == ["DRAConsumableCapacity"]
    assert entry["fields"] == ["allowMultipleAllocations", "capacity.requestPolicy"]
    assert "slots" in entry["means"][0]


async def test_missing_feature_gates_are_shown_in_the_metrics_while_they_are_missing(publishing: Publishing) -> None:
    metrics = Metrics(driver=DRIVER)
    publishing.publisher._progress = metrics
    publishing.api.dropped_fields = frozenset({"allowMultipleAllocations", "requestPolicy"})
    sample = f'vgpu_dra_missing_feature_gate{{driver="{DRIVER}",feature_gate="DRAConsumableCapacity"}} 1.0'
    async with publishing.running():
        assert sample in b"".join(metrics.text()).decode()
        publishing.api.dropped_fields = frozenset()
        await publishing.api.until(lambda: publishing.api.watches_opened >= 1)
        publishing.api.break_watches()
        await publishing.api.until(lambda: len(publishing.api.writes()) == 2)
        await settle()
        assert "DRAConsumableCapacity" not in b"".join(metrics.text()).decode()


async def test_a_gate_that_is_switched_on_again_is_made_use_of_after_the_next_list(publishing: Publishing) -> None:
    publishing.api.dropped_fields = frozenset({"taints"})
    publishing.devices = (card(0, unhealthy="lost"),)
    async with publishing.running():
        # Untainted it would take new work.
        await publishing.until_shown()
        publishing.api.dropped_fields = frozenset()
        await publishing.api.until(lambda: publishing.api.watches_opened >= 1)
        publishing.api.break_watches()
        await publishing.until_shown("gpu-0!")


async def test_a_server_that_ends_every_watch_at_once_is_not_stormed(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 60.0)
    publishing.api.ends_watches_at_once = True
    async with publishing.running():
        await publishing.api.until(lambda: publishing.api.watches_opened == 1)
        await settle()
        assert publishing.api.watches_opened == 1
