"""Reading ResourceClaims: what matters is parsed once, what is unknown passes, what is wrong is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dra_driver.errors import ObjectRejected
from dra_driver.kube.claims import ApiClaims, ClaimRef, ConfigSource, parse_claim
from dra_driver.kube.errors import Conflict, NotFound
from tests.support.api import MemoryApi
from tests.support.claims import DRIVER, allocated, foreign, opaque, share, unallocated, vgpu_config, whole_device

GIB = 1 << 30


def test_a_share_is_read_with_its_capacity_in_whole_numbers() -> None:
    claim = parse_claim(allocated("train", share("gpu", "gpu-0", memory="4Gi", cores="5500m", share_id="s1")))
    assert claim.results is not None
    result = claim.results[0]
    assert (result.request, result.driver, result.device, result.share_id) == ("gpu", DRIVER, "gpu-0", "s1")
    assert result.consumed == {"memory": 4 * GIB, "cores": 6, "shares": 1}


def test_a_whole_device_has_neither_share_nor_capacity() -> None:
    results = parse_claim(allocated("train", whole_device("gpu", "gpu-0"))).results
    assert results is not None
    assert (results[0].share_id, results[0].consumed) == (None, None)


def test_a_claim_without_allocation_has_no_results() -> None:
    assert parse_claim(unallocated("train")).results is None
    assert parse_claim({**unallocated("train"), "status": {}}).results is None


def test_an_empty_allocation_is_not_the_same_as_none() -> None:
    assert parse_claim(allocated("train")).results == ()


def test_capacity_may_come_as_a_number() -> None:
    wire = allocated("train", share("gpu", "gpu-0"))
    wire["status"]["allocation"]["devices"]["results"][0]["consumedCapacity"]["cores"] = 30
    results = parse_claim(wire).results
    assert results is not None
    assert results[0].consumed is not None
    assert results[0].consumed["cores"] == 30


def test_fields_of_a_newer_kubernetes_pass() -> None:
    wire = allocated("train", {**share("gpu", "gpu-0"), "bindingConditions": ["x"], "novelty": {"a": [1]}})
    wire["status"]["novelty"] = {"deep": True}
    wire["status"]["allocation"]["devices"]["config"] = [{"source": "FromClaim", "requests": [], "novelty": {"a": 1}}]
    claim = parse_claim(wire)
    assert claim.results is not None
    assert claim.parameters == ()


def test_opaque_parameters_keep_their_place_in_the_object() -> None:
    unknown = {"source": "FromClass", "novelty": {}}
    config = [unknown, opaque(vgpu_config(priority="high"), "gpu", source="FromClass")]
    (parameters,) = parse_claim(allocated("train", share("gpu", "gpu-0"), config=config)).parameters
    assert parameters.path == "status.allocation.devices.config[1].opaque.parameters"
    assert (parameters.source, parameters.requests) == (ConfigSource.CLASS, ("gpu",))
    assert parameters.parameters["priority"] == "high"


def test_results_of_other_drivers_are_read_too() -> None:
    results = parse_claim(allocated("train", foreign("nic"), share("gpu", "gpu-0"))).results
    assert results is not None
    assert [result.path for result in results] == [
        "status.allocation.devices.results[0]",
        "status.allocation.devices.results[1]",
    ]


_RESULT = ("status", "allocation", "devices", "results", 0)


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        ((*_RESULT, "device"), 7, "status.allocation.devices.results[0].device"),
        ((*_RESULT, "pool"), None, "status.allocation.devices.results[0].pool"),
        ((*_RESULT, "shareID"), ["x"], "status.allocation.devices.results[0].shareID"),
        (
            (*_RESULT, "consumedCapacity", "memory"),
            "4GB",
            "status.allocation.devices.results[0].consumedCapacity[memory]",
        ),
        (("status", "allocation", "devices", "results"), "none", "status.allocation.devices.results"),
        (("metadata", "uid"), 5, "metadata.uid"),
    ],
)
def test_a_bad_field_is_named_by_its_path(place: tuple[str | int, ...], value: object, path: str) -> None:
    wire: Any = copy.deepcopy(allocated("train", share("gpu", "gpu-0")))
    parent = wire
    for part in place[:-1]:
        parent = parent[part]
    parent[place[-1]] = value
    with pytest.raises(ObjectRejected) as caught:
        parse_claim(wire)
    assert caught.value.subject == "ResourceClaim team-a/train"
    assert caught.value.path == path


def test_an_unknown_source_of_parameters_is_refused() -> None:
    wire = allocated("train", share("gpu", "gpu-0"), config=[opaque(vgpu_config(), source="FromNowhere")])
    with pytest.raises(ObjectRejected) as caught:
        parse_claim(wire)
    assert caught.value.path == "status.allocation.devices.config[0].source"


@pytest.mark.parametrize("wire", [{}, {"metadata": 3}, {"metadata": {}}])
def test_an_object_without_metadata_is_refused(wire: dict[str, Any]) -> None:
    with pytest.raises(ObjectRejected, match="metadata"):
        parse_claim(wire)


@pytest.mark.parametrize(
    ("field", "ref"),
    [
        ("uid", ClaimRef("team-a", "train", "../../etc/passwd")),
        ("uid", ClaimRef("team-a", "train", "")),
        ("uid", ClaimRef("team-a", "train", "a/b")),
        ("uid", ClaimRef("team-a", "train", "a\n")),
        ("uid", ClaimRef("team-a", "train", "a" * 64)),
        ("name", ClaimRef("team-a", "train?x=1", "u1")),
        ("name", ClaimRef("team-a", "..", "u1")),
        ("name", ClaimRef("team-a", "Train", "u1")),
        ("namespace", ClaimRef("team/a", "train", "u1")),
        ("namespace", ClaimRef("", "train", "u1")),
    ],
)
def test_what_cannot_name_a_claim_is_refused_before_it_becomes_a_path(field: str, ref: ClaimRef) -> None:
    with pytest.raises(ObjectRejected) as caught:
        ref.check()
    assert caught.value.path == field


def test_an_ordinary_reference_passes() -> None:
    ClaimRef("team-a", "train-0.gpu", "6b0b3f0e-4c1e-4a4e-9a57-5c1d2b1f0a11").check()


async def test_a_claim_is_read_from_the_api_server_by_namespace_and_name() -> None:
    api = MemoryApi()
    wire = allocated("train", share("gpu", "gpu-0"))
    api.put_claim(wire)
    claim = await ApiClaims(api).get(ClaimRef("team-a", "train", "whatever"))
    assert claim.ref.uid == wire["metadata"]["uid"]
    with pytest.raises(NotFound):
        await ApiClaims(api).get(ClaimRef("team-b", "train", "whatever"))


def test_a_claim_from_a_template_tells_the_name_that_pods_have_for_it() -> None:
    wire = allocated("train", share("gpu", "gpu-0"))
    assert parse_claim(wire).pod_claim_name == ""
    wire["metadata"]["annotations"] = {"resource.kubernetes.io/pod-claim-name": "gpu", "other": "x"}
    assert parse_claim(wire).pod_claim_name == "gpu"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "UPPER", "a" * 64])
def test_a_name_that_cannot_be_part_of_a_path_is_refused(name: str) -> None:
    wire = allocated("train", share("gpu", "gpu-0"))
    wire["metadata"]["annotations"] = {"resource.kubernetes.io/pod-claim-name": name}
    with pytest.raises(ObjectRejected, match="pod-claim-name"):
        parse_claim(wire)
    with pytest.raises(ObjectRejected, match=r"results\[0\]\.request"):
        parse_claim(allocated("train", share(name + "/x/y", "gpu-0")))


def test_what_drivers_have_reported_is_read_and_the_rest_of_it_passes() -> None:
    wire = allocated("train", share("gpu", "gpu-0"))
    condition = {"type": "Ready", "status": "False", "reason": "R", "message": "m", "lastTransitionTime": "t"}
    wire["status"]["devices"] = [
        {"driver": DRIVER, "pool": "p", "device": "d", "shareID": "s", "conditions": [condition], "data": {"a": 1}},
        {"driver": "other", "pool": "p", "device": "d", "data": [1], "novelty": 3},
    ]
    ours, other = parse_claim(wire).reported
    assert (ours.share_id, ours.ready, ours.since, ours.reason, ours.data) == ("s", False, "t", "R", {"a": 1})
    assert (other.share_id, other.ready, other.since, other.data) == (None, None, "", {})


async def test_a_status_is_applied_to_this_very_claim() -> None:
    api = MemoryApi()
    wire = allocated("train", share("gpu", "gpu-0"))
    api.put_claim(wire)
    result = wire["status"]["allocation"]["devices"]["results"][0]
    device = {key: result[key] for key in ("driver", "pool", "device", "shareID")}
    await ApiClaims(api).apply_device_status(ClaimRef("team-a", "train", wire["metadata"]["uid"]), DRIVER, [device])
    assert api.device_status(wire) == [device]
    with pytest.raises(Conflict):
        await ApiClaims(api).apply_device_status(ClaimRef("team-a", "train", "another-uid"), DRIVER, [])
