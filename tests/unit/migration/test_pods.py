"""A pod as a whole: its containers of every kind, what stays as it is, what is refused and what is warned about."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dra_driver.errors import ObjectRejected
from dra_driver.migration.pods import migrate
from tests.unit.migration.pods_for_hami import SIXTEEN, Wire, amounts, container, migrated, pod, requests_of, uses

SIDECAR = {"restartPolicy": "Always"}


def test_a_pod_without_hamis_resources_is_none_of_ours() -> None:
    assert migrate(pod(container(cpu=1, memory="1Gi")), SIXTEEN, subject="Pod team/train") is None


def test_a_pod_that_hami_was_told_to_ignore_is_ignored() -> None:
    wire = pod(container(nvidia_gpu=1))
    wire["metadata"]["labels"] = {"hami.io/webhook": "ignore"}
    assert migrate(wire, SIXTEEN, subject="Pod team/train") is None


def test_resources_that_are_not_hamis_stay() -> None:
    wire = container(cpu="2", nvidia_gpu=1, nvidia_gpumem=100)
    wire["resources"]["requests"] = {"cpu": "1", "nvidia.com/gpu": 1}
    wire["resources"]["claims"] = [{"name": "net"}]
    found = migrated(pod(wire, resourceClaims=[{"name": "net", "resourceClaimName": "net"}]))
    assert found.pod["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "2"},
        "requests": {"cpu": "1"},
        "claims": [{"name": "net"}, {"name": "vgpu-main"}],
    }
    assert [entry["name"] for entry in found.pod["spec"]["resourceClaims"]] == ["net", "vgpu-main"]
    assert found.resources == {"main": {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "100"}}


def test_mapping_changes_only_what_it_must() -> None:
    wire = pod(
        container(nvidia_gpu=1), restartPolicy="Never", schedulerName="hami-scheduler", runtimeClassName="nvidia"
    )
    before = copy.deepcopy(wire)
    spec = migrated(wire).pod["spec"]
    assert wire == before
    assert spec["schedulerName"] == "default-scheduler"
    changed = {"containers", "resourceClaims", "schedulerName"}
    assert {name: part for name, part in spec.items() if name not in changed} == {
        "restartPolicy": "Never",
        "runtimeClassName": "nvidia",
    }


@pytest.mark.parametrize("scheduler", ["volcano", "default-scheduler"])
def test_other_schedulers_keep_their_pods(scheduler: str) -> None:
    assert migrated(pod(container(nvidia_gpu=1), schedulerName=scheduler)).pod["spec"]["schedulerName"] == scheduler


def test_containers_have_claims_of_their_own() -> None:
    found = migrated(pod(container("a", nvidia_gpu=1, nvidia_gpumem=1), container("b", nvidia_gpu=1, nvidia_gpumem=2)))
    assert (uses(found, "a"), uses(found, "b")) == ([{"name": "vgpu-a"}], [{"name": "vgpu-b"}])
    assert [amounts(requests_of(found, name)[0])["memory"] for name in "ab"] == ["1Mi", "2Mi"]


def test_containers_that_ask_for_the_same_share_a_template_and_not_a_claim() -> None:
    found = migrated(pod(container("a", nvidia_gpu=1), container("b", nvidia_gpu=1), container("c", cpu=1)))
    entries = found.pod["spec"]["resourceClaims"]
    assert [entry["name"] for entry in entries] == ["vgpu-a", "vgpu-b"]
    assert len({entry["resourceClaimTemplateName"] for entry in entries}) == len(found.templates) == 1
    assert uses(found, "c") == []


def test_cards_of_two_vendors_are_two_requests_of_one_claim() -> None:
    found = migrated(pod(container(nvidia_gpu=1, hygon_dcunum=1, huawei_Ascend910A=1, huawei_Ascend910B3=1)))
    names = [request["name"] for request in requests_of(found)]
    assert names == ["gpu", "dcu", "npu-910a", "npu-910b3"]


def test_a_claim_name_that_is_taken_gets_a_number() -> None:
    found = migrated(pod(container(nvidia_gpu=1), resourceClaims=[{"name": "vgpu-main", "resourceClaimName": "x"}]))
    assert uses(found) == [{"name": "vgpu-main-2"}]


def test_a_long_container_name_makes_a_claim_name_that_is_allowed() -> None:
    found = migrated(pod(container("c" * 63, nvidia_gpu=1), container(f"{'c' * 62}d", nvidia_gpu=1)))
    names = [entry["name"] for entry in found.pod["spec"]["resourceClaims"]]
    assert len(set(names)) == 2
    assert all(len(name) <= 63 for name in names)


INIT: list[tuple[str, dict[str, Any], dict[str, Any], list[Wire]]] = [
    ("the same", {"nvidia_gpu": 1, "nvidia_gpumem": 500}, {}, [{"name": "vgpu-main"}]),
    ("less memory", {"nvidia_gpu": 1, "nvidia_gpumem": 100}, {}, [{"name": "vgpu-main"}]),
    ("more memory", {"nvidia_gpu": 1, "nvidia_gpumem": 501}, {}, [{"name": "vgpu-init"}]),
    ("compute, where none is reserved", {"nvidia_gpumem": 100, "nvidia_gpucores": 5}, {}, [{"name": "vgpu-init"}]),
    ("more cards", {"nvidia_gpu": 2, "nvidia_gpumem": 500}, {}, [{"name": "vgpu-init"}]),
    ("another vendor's", {"hygon_dcunum": 1}, {}, [{"name": "vgpu-init"}]),
    ("another priority", {"nvidia_gpumem": 1, "nvidia_priority": 0}, {}, [{"name": "vgpu-init"}]),
    ("a sidecar", {"nvidia_gpu": 1, "nvidia_gpumem": 100}, SIDECAR, [{"name": "vgpu-init"}]),
]


@pytest.mark.parametrize(("limits", "also", "expected"), [case[1:] for case in INIT], ids=[case[0] for case in INIT])
def test_an_init_container_uses_a_claim_that_holds_what_it_asks_for(
    limits: dict[str, Any], also: dict[str, Any], expected: list[Wire]
) -> None:
    main = container(nvidia_gpu=1, nvidia_gpumem=500)
    found = migrated(pod(main, init=[container("init", also=also, **limits)]))
    assert uses(found, "init") == expected
    assert len(found.pod["spec"]["resourceClaims"]) == (1 if expected == [{"name": "vgpu-main"}] else 2)


def test_an_init_container_sees_as_many_cards_as_it_asks_for() -> None:
    main = container(nvidia_gpu=3, nvidia_gpumem=500)
    found = migrated(pod(main, init=[container("init", nvidia_gpu=2, nvidia_gpumem=500)]))
    assert uses(found, "init") == [
        {"name": "vgpu-main", "request": "gpu-0"},
        {"name": "vgpu-main", "request": "gpu-1"},
    ]


def test_init_containers_use_the_largest_ones_claim_one_after_the_other() -> None:
    sizes = {"small": 10, "large": 30, "again": 30, "middle": 20}
    init = [container(name, nvidia_gpu=1, nvidia_gpumem=size) for name, size in sizes.items()]
    found = migrated(pod(container(cpu=1), init=init))
    assert {name: uses(found, name)[0]["name"] for name in sizes} == dict.fromkeys(sizes, "vgpu-large")


def test_a_sidecar_lends_nothing() -> None:
    sidecar = container("side", nvidia_gpu=1, also=SIDECAR)
    found = migrated(pod(container(cpu=1), init=[sidecar, container("init", nvidia_gpu=1)]))
    assert (uses(found, "side"), uses(found, "init")) == ([{"name": "vgpu-side"}], [{"name": "vgpu-init"}])


@pytest.mark.parametrize(
    ("spec", "annotations", "path"),
    [
        ({"nodeName": "node-a"}, {}, "spec.nodeName"),
        ({}, {"nvidia.com/vgpu-mode": "mig"}, "metadata.annotations[nvidia.com/vgpu-mode]"),
        ({}, {"nvidia.com/vgpu-mode": "mps"}, "metadata.annotations[nvidia.com/vgpu-mode]"),
    ],
)
def test_what_a_pod_relies_on_and_cannot_have_is_refused(
    spec: dict[str, Any], annotations: dict[str, str], path: str
) -> None:
    with pytest.raises(ObjectRejected) as refused:
        migrate(pod(container(nvidia_gpu=1), annotations=annotations, **spec), SIXTEEN, subject="Pod team/train")
    assert refused.value.path == path


def test_ascend_cards_divided_by_software_are_refused() -> None:
    wire = pod(container(huawei_Ascend910A=1), annotations={"huawei.com/vnpu-mode": "hami-core"})
    with pytest.raises(ObjectRejected, match="divided by templates"):
        migrate(wire, SIXTEEN, subject="Pod team/train")


@pytest.mark.parametrize(
    "annotations",
    [
        {"nvidia.com/vgpu-mode": "hami-core"},
        {"nvidia.com/vgpu-mode": "mig,hami-core"},
        {"hami.io/gpu-scheduler-policy": "binpack"},
        {"nvidia.com/numa-bind": "true"},
    ],
)
def test_what_is_so_anyway_is_not_worth_a_warning(annotations: dict[str, str]) -> None:
    assert migrated(pod(container(nvidia_gpu=1), annotations=annotations)).warnings == ()


@pytest.mark.parametrize(
    ("annotations", "also", "limits", "words"),
    [
        ({"hami.io/node-scheduler-policy": "spread"}, {}, {}, "'spread' has no effect"),
        ({"hami.io/gpu-scheduler-policy": "mutex"}, {}, {}, "'mutex' has no effect"),
        ({"hami.io/device-scoring-weights": "{}"}, {}, {}, "'{}' has no effect"),
        ({}, {"env": [{"name": "CUDA_DISABLE_CONTROL", "value": "true"}]}, {}, "limits are enforced on every share"),
        ({}, {"env": [{"name": "GPU_CORE_UTILIZATION_POLICY", "value": "wild"}]}, {}, "'wild' is unknown"),
        ({}, {"securityContext": {"privileged": True}}, {}, "a privileged container can reach every card"),
        ({}, {}, {"nvidia_gpumem": 10, "nvidia_gpucores": 100}, "but not those that reserve none"),
    ],
)
def test_what_comes_out_otherwise_is_told(
    annotations: dict[str, str], also: dict[str, Any], limits: dict[str, Any], words: str
) -> None:
    found = migrated(pod(container(nvidia_gpu=1, also=also, **limits), annotations=annotations))
    (warning,) = found.warnings
    assert words in warning
