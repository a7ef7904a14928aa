"""What HAMi's amounts mean: each name and each default, of every vendor, as a request of a claim."""

from __future__ import annotations

from typing import Any

import pytest

from dra_driver.errors import ObjectRejected
from dra_driver.migration.claiming import Context
from dra_driver.migration.pods import migrate
from tests.unit.migration.pods_for_hami import (
    GIB,
    SIXTEEN,
    amounts,
    conditions,
    container,
    devices_of,
    migrated,
    pod,
    requests_of,
)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"nvidia_gpu": 1, "nvidia_gpumem": 3000}, {"memory": "3000Mi", "cores": "0"}),
        ({"nvidia_gpu": "1", "nvidia_gpumem": "4096", "nvidia_gpucores": "30"}, {"memory": "4Gi", "cores": "30"}),
        ({"nvidia_gpumem": "3k"}, {"memory": "3000Mi", "cores": "0"}),
        ({"nvidia_gpu": 1}, {"cores": "100"}),
        ({"nvidia_gpucores": 30}, {"cores": "100"}),
        ({"nvidia_gpu": 1, "nvidia_gpumem": 0}, {"cores": "100"}),
        ({"nvidia_gpu": 1, "nvidia_gpumem_percentage": 100}, {"cores": "100"}),
        ({"nvidia_gpu": 1, "nvidia_gpumem_percentage": 0}, {"cores": "100"}),
        ({"nvidia_gpu": 1, "nvidia_gpumem_percentage": 50}, {"memory": "8Gi", "cores": "0"}),
        ({"nvidia_gpu": 1, "nvidia_gpumem_percentage": 33}, {"memory": "5406Mi", "cores": "0"}),
        ({"nvidia_gpu": 1, "nvidia_gpumem": 1000, "nvidia_gpumem_percentage": 50}, {"memory": "1000Mi", "cores": "0"}),
        ({"nvidia_gpu": 1, "nvidia_gpumem": 1000, "nvidia_gpucores": 150}, {"memory": "1000Mi", "cores": "100"}),
        ({"hygon_dcunum": 1, "hygon_dcumem": 2000, "hygon_dcucores": 60}, {"memory": "2000Mi", "cores": "60"}),
        ({"hygon_dcunum": 1, "hygon_dcumem": 2000}, {"memory": "2000Mi", "cores": "100"}),
        ({"hygon_dcunum": 1}, {"cores": "100"}),
        ({"huawei_Ascend910B3": 1, "huawei_Ascend910B3_memory": 2000}, {"memory": "2000Mi", "cores": "0"}),
        ({"huawei_Ascend910B3": 1, "huawei_Ascend910B3_memory": 40000}, {"cores": "100"}),
        ({"huawei_Ascend310P": 1}, {"cores": "100"}),
        ({"kunlunxin_vxpu": 1, "kunlunxin_vxpu_memory": 24576}, {"memory": "24Gi", "cores": "0"}),
        ({"kunlunxin_vxpu": 1, "kunlunxin_vxpu_memory": 60000}, {"cores": "100"}),
        ({"kunlunxin_xpu": 1}, {"cores": "100"}),
        ({"volcano.sh/vgpu-number": 1, "volcano.sh/vgpu-memory": 3000}, {"memory": "3000Mi", "cores": "0"}),
    ],
)
def test_an_amount_becomes_a_capacity(limits: dict[str, Any], expected: dict[str, str]) -> None:
    (request,) = requests_of(migrated(pod(container(**limits))))
    assert amounts(request) == expected


@pytest.mark.parametrize(
    ("limits", "device_class"),
    [
        ({"nvidia_gpu": 1}, "nvidia.vgpu.hami.io"),
        ({"hygon_dcunum": 1}, "hygon.vgpu.hami.io"),
        ({"huawei_Ascend910A": 1}, "ascend.vgpu.hami.io"),
        ({"kunlunxin_vxpu": 1}, "kunlunxin.vgpu.hami.io"),
    ],
)
def test_each_vendor_has_its_class(limits: dict[str, Any], device_class: str) -> None:
    (request,) = requests_of(migrated(pod(container(**limits))))
    assert request["exactly"]["deviceClassName"] == device_class


def test_an_ascend_name_means_its_chip_and_no_other() -> None:
    (request,) = requests_of(migrated(pod(container(huawei_Ascend910B4=1))))
    assert conditions(request) == ['device.attributes["vgpu.hami.io"].model in ["910B4", "Ascend910B4"]']


def test_several_cards_are_different_ones() -> None:
    devices = devices_of(migrated(pod(container(nvidia_gpu=3, nvidia_gpumem=1000))))
    assert [request["name"] for request in devices["requests"]] == ["gpu-0", "gpu-1", "gpu-2"]
    assert devices["constraints"] == [
        {"requests": ["gpu-0", "gpu-1", "gpu-2"], "distinctAttribute": "vgpu.hami.io/uuid"}
    ]


def test_numa_binding_keeps_several_cards_on_one_numa_node() -> None:
    wire = pod(container(nvidia_gpu=2), annotations={"nvidia.com/numa-bind": "true"})
    assert devices_of(migrated(wire))["constraints"][1:] == [
        {"requests": ["gpu-0", "gpu-1"], "matchAttribute": "resource.kubernetes.io/numaNode"}
    ]


def test_a_percentage_lists_every_size_of_card_that_there_is() -> None:
    context = Context(card_sizes={"nvidia": frozenset({80 * GIB, 16 * GIB}), "hygon": frozenset({64 * GIB})})
    (request,) = requests_of(migrated(pod(container(nvidia_gpu=1, nvidia_gpumem_percentage=25)), context))
    memory = 'device.capacity["vgpu.hami.io"].memory.compareTo(quantity("{}")) == 0'
    assert [
        (way["name"], way["capacity"]["requests"]["memory"], way["selectors"][0]["cel"]["expression"])
        for way in request["firstAvailable"]
    ] == [("of-16384mi", "4Gi", memory.format("16Gi")), ("of-81920mi", "20Gi", memory.format("80Gi"))]


def test_a_percentage_of_one_known_size_is_not_taken_of_another_that_comes_later() -> None:
    (request,) = requests_of(migrated(pod(container(nvidia_gpu=1, nvidia_gpumem_percentage=50))))
    assert conditions(request) == ['device.capacity["vgpu.hami.io"].memory.compareTo(quantity("16Gi")) == 0']


def test_more_sizes_than_a_request_can_list_are_joined_and_told() -> None:
    sizes = frozenset(size * GIB for size in (8, 12, 16, 24, 32, 40, 48, 80, 90))
    found = migrated(pod(container(nvidia_gpu=1, nvidia_gpumem_percentage=50)), Context(card_sizes={"nvidia": sizes}))
    (request,) = requests_of(found)
    assert len(request["firstAvailable"]) == 8
    joined = next(way for way in request["firstAvailable"] if way["name"] == "of-81920mi")
    assert joined["capacity"]["requests"]["memory"] == "40Gi"
    assert joined["selectors"][0]["cel"]["expression"].count(" && ") == 1
    (warning,) = found.warnings
    assert warning.startswith("spec.containers[0]: on cards from 80Gi to 90Gi the share is 40Gi")


def test_a_percentage_of_cards_that_nobody_publishes_is_refused() -> None:
    with pytest.raises(ObjectRejected, match=r"50 % cannot be told in bytes, as no sizes of nvidia cards are known"):
        migrate(pod(container(nvidia_gpumem_percentage=50)), Context(), subject="Pod team/train")


@pytest.mark.parametrize(("priority", "expected"), [(0, "high"), (1, "low"), (7, "low")])
def test_hamis_priority_becomes_ours(priority: int, expected: str) -> None:
    found = migrated(pod(container(nvidia_gpu=1, nvidia_gpumem=1, nvidia_priority=priority)))
    (config,) = devices_of(found)["config"]
    assert config["opaque"]["parameters"] == {
        "apiVersion": "vgpu.hami.io/v1alpha1",
        "kind": "VgpuConfig",
        "priority": expected,
    }
    assert config["requests"] == ["gpu"]
    assert bool(found.warnings) == (priority > 1)


def test_nothing_is_configured_where_nothing_was_said() -> None:
    assert "config" not in devices_of(migrated(pod(container(nvidia_gpu=1, nvidia_gpumem=1))))


@pytest.mark.parametrize(("policy", "expected"), [("force", "fixed"), ("disable", "shared")])
def test_the_core_policy_of_a_container_becomes_its_compute_policy(policy: str, expected: str) -> None:
    env = {"env": [{"name": "GPU_CORE_UTILIZATION_POLICY", "value": policy}]}
    found = migrated(pod(container(nvidia_gpu=1, nvidia_gpumem=1, also=env)))
    assert devices_of(found)["config"][0]["opaque"]["parameters"]["computePolicy"] == expected


@pytest.mark.parametrize(
    ("limits", "field", "problem"),
    [
        ({"nvidia_gpu": "many"}, "nvidia.com/gpu", "is not a quantity"),
        ({"nvidia_gpu": "500m"}, "nvidia.com/gpu", "must be a whole number from 0 to 32"),
        ({"nvidia_gpu": 33}, "nvidia.com/gpu", "must be a whole number from 0 to 32"),
        ({"nvidia_gpu": 1, "nvidia_gpumem": "16Gi"}, "nvidia.com/gpumem", "must be a whole number"),
        ({"nvidia_gpu": 1, "nvidia_gpumem": -1}, "nvidia.com/gpumem", "must be a whole number"),
        ({"nvidia_gpumem_percentage": 101}, "nvidia.com/gpumem-percentage", "from 0 to 100"),
        ({"huawei_Ascend910B3": 1, "huawei_Ascend910B3_core": 5}, "huawei.com/Ascend910B3-core", "by software"),
        ({"nvidia_gpu": 1, "cambricon.com/vmlu": 1}, "cambricon.com/vmlu", "no backend serves it here"),
    ],
)
def test_an_amount_that_makes_no_sense_is_refused_with_its_field(
    limits: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(ObjectRejected) as refused:
        migrate(pod(container(**limits)), SIXTEEN, subject="Pod team/train")
    assert refused.value.path == f"spec.containers[0].resources.limits[{field}]"
    assert problem in refused.value.problem


def test_a_limit_and_another_request_are_refused() -> None:
    wire = container(nvidia_gpu=2)
    wire["resources"]["requests"] = {"nvidia.com/gpu": 1}
    with pytest.raises(ObjectRejected, match="limit and request must be equal, not 1 and 2"):
        migrate(pod(wire), SIXTEEN, subject="Pod team/train")


def test_more_cards_than_a_claim_can_hold_are_refused() -> None:
    with pytest.raises(ObjectRejected, match="asks for 40 cards, and a claim can hold 32"):
        migrate(pod(container(nvidia_gpu=20, hygon_dcunum=20)), SIXTEEN, subject="Pod team/train")


@pytest.mark.parametrize(
    "limits", [{"nvidia_priority": 0}, {"nvidia_gpu": 0, "nvidia_gpumem": 100}, {"hygon_dcumem": 100}]
)
def test_amounts_without_a_card_are_taken_away_with_a_warning(limits: dict[str, Any]) -> None:
    found = migrated(pod(container(**limits)))
    assert found.pod["spec"]["containers"][0]["resources"] == {}
    assert found.templates == {}
    (warning,) = found.warnings
    assert warning.endswith("asks for nothing")


def test_no_cards_are_no_claim_and_no_warning() -> None:
    found = migrated(pod(container(nvidia_gpu=0)))
    assert (found.templates, found.warnings) == ({}, ())
    assert "resourceClaims" not in found.pod["spec"]
