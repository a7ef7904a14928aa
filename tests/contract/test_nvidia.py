"""What is NVIDIA's own: figures, words and places, on a machine described for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.errors import BackendUnavailable, RuntimeNotReady
from drivers.model import Capacity, Device, DeviceType, Enforcement, Injection, Range, Share, ShareSettings, Values
from tests.contract.nvidia_rig import NvidiaRig

MIB = 1024**2
UUID = "GPU-8f3a1c2d-0000-1111-2222-333344445555"
CARDS = {
    "driver_version": "580.65.06",
    "cuda_version": 13000,
    "cards": [
        {
            "name": "NVIDIA Test 80GB",
            "uuid": UUID,
            "memory": 81559 * MIB + 4096,
            "pci_bus_id": "0000:3b:00.0",
            "architecture": 9,
            "numa_node": 1,
        },
        {"uuid": "GPU-8f3a1c2d-0001-1111-2222-333344445555", "pci_bus_id": "0001:3c:00.0"},
    ],
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[NvidiaRig]:
    made = NvidiaRig(tmp_path, cards=CARDS)
    yield made
    made.end()


def test_card_is_told_in_full(rig: NvidiaRig) -> None:
    assert rig.open().discover()[0] == Device(
        name="gpu-8f3a1c2d0000",
        vendor="nvidia",
        type=DeviceType.GPU,
        uuid=UUID,
        index=0,
        model="NVIDIA Test 80GB",
        memory=Capacity(81559 * MIB, Range(minimum=MIB, maximum=81559 * MIB, step=MIB, default=81559 * MIB)),
        cores=Capacity(100, Range(minimum=0, maximum=100, step=1, default=0)),
        shares=Capacity(10, Values((1,), default=1)),
        architecture="Hopper",
        driver_version="580.65.06",
        runtime_version="13.0",
        memory_isolation=Enforcement.SOFT,
        compute_control=Enforcement.SOFT,
        pci_bus_id="0000:3b:00.0",
        numa_node=1,
    )


def test_place_on_the_bus_comes_from_the_kernel_where_it_lists_the_card(rig: NvidiaRig, tmp_path: Path) -> None:
    entry = tmp_path / "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0"
    entry.mkdir(parents=True)
    (entry / "numa_node").write_text("-1\n")
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices/0000:3b:00.0").symlink_to(entry)
    first, second = rig.open().discover()
    assert (first.pcie_root, first.numa_node) == ("pci0000:3a", None)
    assert (second.pcie_root, second.numa_node) == ("", 0)


def test_container_is_given_the_toolkits_device_and_the_shim_and_nothing_else(rig: NvidiaRig) -> None:
    backend = rig.open()
    share = Share(key="c-1", device=backend.discover()[0], memory=4096 * MIB, cores=30)
    assert backend.prepare(share) == Injection(
        vendor_cdi_devices=(f"nvidia.com/gpu={UUID}",),
        environment=(("NVIDIA_VISIBLE_DEVICES", "void"),),
        shim=True,
    )


def test_absent_toolkit_is_told_with_what_to_run(rig: NvidiaRig) -> None:
    rig.remove_runtime()
    with pytest.raises(RuntimeNotReady, match="nvidia-ctk cdi generate"):
        rig.open().discover()


def test_a_share_that_may_use_the_hosts_memory_needs_nothing_but_the_shim(rig: NvidiaRig) -> None:
    backend = rig.open()
    plain = Share(key="c-1", device=backend.discover()[0], memory=MIB, cores=0)
    assert backend.prepare(replace(plain, settings=ShareSettings(host_memory=MIB))) == backend.prepare(plain)


@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetMigMode", "nvmlDeviceGetArchitecture", "nvmlDeviceGetMemoryAffinity"]
)
def test_card_without_a_newer_feature_is_told_all_the_same(rig: NvidiaRig, function: str) -> None:
    rig.fail(function, 3)  # NVML_ERROR_NOT_SUPPORTED
    assert [device.unhealthy for device in rig.open().discover()] == ["", ""]


@pytest.mark.parametrize("code", [15, 16, 999])  # lost, needs a reset, unknown
def test_card_that_stops_answering_one_question_is_unhealthy_until_it_answers(rig: NvidiaRig, code: int) -> None:
    backend = rig.open()
    before = backend.discover()
    rig.fail("nvmlDeviceGetMemoryInfo", code)
    assert [bool(device.unhealthy) for device in backend.discover()] == [True, False]
    assert backend.discover() == before


def test_driver_that_is_loaded_after_the_start_is_found(rig: NvidiaRig) -> None:
    backend = rig.open()
    with rig.without_driver(), pytest.raises(BackendUnavailable, match="Driver Not Loaded"):
        backend.discover()
    assert len(backend.discover()) == 2


def test_driver_that_is_exchanged_under_the_library_is_told_as_such(rig: NvidiaRig) -> None:
    backend = rig.open()
    backend.discover()
    rig.fail("nvmlSystemGetDriverVersion", 18)  # NVML_ERROR_LIB_RM_VERSION_MISMATCH
    with pytest.raises(BackendUnavailable, match="mismatch"):
        backend.discover()
