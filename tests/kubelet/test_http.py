"""What people and Prometheus see of the plugin over HTTP."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from dra_driver.errors import SettingsRejected
from dra_driver.kubeletplugin import node_cards
from drivers.backend import Fault
from tests.kubelet.plugin import Plugin
from tests.support.backend import GIB, WatchedBackend, card
from tests.support.claims import DRIVER, NODE, POOL, allocated, share, unallocated
from tests.waiting import eventually

TRAIN = allocated("train", share("gpu", "gpu-0", share_id="s1"))
CALL = {"driver": DRIVER}


class Http:
    """A plugin's HTTP server."""

    def __init__(self, logs: Sequence[Mapping[str, object]]) -> None:
        (self._address,) = [entry["address"] for entry in logs if entry["event"] == "http_serving"]

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._get, path)

    async def series(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        _, text = await self.get("/metrics")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture
def http(plugin: Plugin) -> Plugin:
    plugin.settings = plugin.changed(http_address="127.0.0.1:0")
    return plugin


async def test_readiness_says_what_is_missing(http: Plugin) -> None:
    with capture_logs() as logs:
        async with http.running():
            server = Http(logs)
            assert await server.get("/healthz") == (200, "ok\n")
            assert await server.get("/readyz") == (503, "not registered\n")
            await http.kubelet.notify(registered=True)
            assert await server.get("/readyz") == (200, "ok\n")


async def test_claims_are_counted_and_measured_and_errors_by_their_reason(http: Plugin) -> None:
    http.api.put_claim(TRAIN)
    http.api.put_claim(unallocated("waits"))
    with capture_logs() as logs:
        async with http.running():
            await http.kubelet.prepare(TRAIN)
            await http.kubelet.prepare(unallocated("waits"))
            await http.kubelet.unprepare(TRAIN)
            series = await Http(logs).series()
    assert series[key("vgpu_dra_requests_total", operation="prepare", **CALL)] == 2
    assert series[key("vgpu_dra_requests_total", operation="unprepare", **CALL)] == 1
    assert series[key("vgpu_dra_requests_inflight", operation="prepare", **CALL)] == 0
    assert series[key("vgpu_dra_request_duration_seconds_count", operation="prepare", **CALL)] == 2
    assert series[key("vgpu_dra_request_duration_seconds_sum", operation="prepare", **CALL)] > 0
    assert series[key("vgpu_dra_node_prepare_errors_total", error_type="ClaimNotReady", **CALL)] == 1


async def test_the_ledger_is_shown_by_card_as_it_is_at_that_moment(http: Plugin) -> None:
    http.api.put_claim(TRAIN)
    of_card = {"node": NODE, "driver": DRIVER, "vendor": "nvidia", "device_uuid": card(0).uuid}
    with capture_logs() as logs:
        async with http.running():
            server = Http(logs)
            assert (await server.series())[key("vgpu_dra_prepared_devices", **of_card)] == 0
            await http.kubelet.prepare(TRAIN)
            series = await server.series()
    assert series[key("vgpu_dra_prepared_devices", **of_card)] == 1
    assert series[key("vgpu_card_memory_bytes", **of_card)] == 16 * GIB
    assert series[key("vgpu_card_memory_promised_bytes", **of_card)] == 4 * GIB
    assert series[key("vgpu_card_cores_promised_ratio", **of_card)] == 0.3
    assert series[key("vgpu_card_healthy", **of_card)] == 1


async def test_publishing_and_faults_are_counted(http: Plugin) -> None:
    backend = WatchedBackend(card(0), card(1))
    http.backend = backend
    with capture_logs() as logs:
        async with http.running():
            await asyncio.to_thread(backend.hear, Fault(card(1).uuid, "xid-79", "x"))
            await http.api.until(
                lambda: any("taints" in d for wire in http.api.slices.values() for d in wire["spec"]["devices"])
            )
            series = await Http(logs).series()
    assert series[key("vgpu_dra_slice_writes_total", operation="create", **CALL)] == 1
    assert series[key("vgpu_dra_publishing_errors_total", **CALL)] == 0
    assert series[key("vgpu_dra_published_devices", node=NODE, pool=POOL, **CALL)] == 2
    assert series[key("vgpu_dra_last_published_timestamp_seconds", **CALL)] > 1e9
    assert series[key("vgpu_card_faults_total", device_uuid=card(1).uuid, code="xid-79")] == 1
    assert series[key("vgpu_card_healthy", node=NODE, vendor="nvidia", device_uuid=card(1).uuid, **CALL)] == 0


async def test_what_a_share_uses_is_told_by_its_claim_and_nothing_else_names_a_tenants_object(http: Plugin) -> None:
    http.api.put_claim(TRAIN)
    with capture_logs() as logs:
        async with http.running():
            await http.kubelet.prepare(TRAIN)
            series = await Http(logs).series()
            await http.kubelet.unprepare(TRAIN)
            after = await Http(logs).series()
    metadata = TRAIN["metadata"]
    names = {metadata["name"], metadata["namespace"], metadata["uid"]}
    naming = {name: dict(labels) for name, labels in series if names & {value for _, value in labels}}
    assert all(name.startswith("vgpu_share_") for name in naming)
    assert naming["vgpu_share_memory_limit_bytes"]["resourceclaim_name"] == metadata["name"]
    assert naming["vgpu_share_memory_limit_bytes"]["namespace"] == metadata["namespace"]
    assert not [name for name, _ in after if name.startswith("vgpu_share_")]


async def test_without_an_address_nothing_listens(plugin: Plugin) -> None:
    with capture_logs() as logs:
        async with plugin.running():
            pass
    assert not [entry for entry in logs if entry["event"] == "http_serving"]


async def test_an_address_that_is_taken_is_a_wrong_setting(http: Plugin, tmp_path: Path) -> None:
    holder = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with holder:
        port = holder.sockets[0].getsockname()[1]
        http.settings = http.changed(http_address=f"127.0.0.1:{port}")
        with pytest.raises(SettingsRejected, match="http_address"):
            await http.begin()


# The configuration file, while the plugin runs.


def write(path: Path, cards: str) -> None:
    """Replaced in one step, as the kubelet does it: half a file would be one more that is refused."""
    whole = path.with_suffix(".new")
    whole.write_text(f"apiVersion: vgpu.hami.io/v1alpha1\nkind: NodeConfig\ncards: {cards}\n")
    whole.replace(path)


@pytest.fixture
def file(http: Plugin, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugin's configuration file, which is looked at often."""
    monkeypatch.setattr(node_cards, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(node_cards, "_DRAIN_SECONDS", 0.2)
    path = http.folder / "node.yaml"
    write(path, "{}")
    http.settings = http.changed(config_file=str(path))
    return path


async def test_a_change_of_the_file_is_published_and_a_wrong_one_leaves_things_as_they_are(
    http: Plugin, file: Path
) -> None:
    http.settings = http.changed(scan_seconds=600.0)
    slots = [f"gpu-{card}-slot-{slot}" for card in (0, 1) for slot in (0, 1)]
    with capture_logs() as logs:
        async with http.running():
            write(file, "{mode: slots, slots: {number: 2}}")
            await http.api.until(lambda: http.devices == slots)
            write(file, "{mode: slots, slots: {number: 2, memory: 9Gi}}")
            await asyncio.to_thread(
                eventually,
                lambda: any(entry["event"] == "configuration_refused" for entry in logs),
                what="the change is refused",
            )
            assert http.devices == slots
            series = await Http(logs).series()
    assert series[key("vgpu_dra_configuration_changes_total", outcome="taken", **CALL)] == 1
    (refused,) = [entry for entry in logs if entry["event"] == "configuration_refused"]
    assert "gpu-0" in str(refused["error"])


async def test_a_card_in_use_keeps_its_devices_until_its_claim_is_gone(http: Plugin, file: Path) -> None:
    http.api.put_claim(TRAIN)
    async with http.running():
        assert (await http.kubelet.prepare(TRAIN))["train"].error == ""
        write(file, "{mode: excluded}")
        await http.api.until(lambda: http.devices == ["gpu-0"])
        http.api.delete_claim(TRAIN)
        assert (await http.kubelet.unprepare(TRAIN))["train"].error == ""
        await http.api.until(lambda: http.devices == [])
