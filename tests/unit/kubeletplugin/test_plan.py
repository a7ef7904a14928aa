"""Plans: each result its own limits, whatever else the claim holds."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from dra_driver.errors import ClaimNotReady, ConfigRejected, ObjectRejected
from dra_driver.kube.claims import Result, parse_claim
from dra_driver.kubeletplugin.plan import Card, Plan, make_plan, share_key
from drivers.model import ComputePolicy, Priority, ShareSettings
from tests.support.backend import GIB, card
from tests.support.claims import (
    DRIVER,
    POOL,
    allocated,
    foreign,
    opaque,
    share,
    unallocated,
    vgpu_config,
    whole_device,
)

CARDS = {(POOL, device.name): Card(POOL, device) for device in (card(0), card(1))}


def plan(*results: dict[str, Any], config: list[dict[str, Any]] | None = None, uid: str = "") -> Plan:
    return make_plan(parse_claim(allocated("train", *results, config=config, uid=uid)), driver=DRIVER, cards=CARDS)


def limits(one: Plan) -> list[tuple[str, str, int, int]]:
    return [(p.result.request, p.share.device.name, p.share.memory // GIB, p.share.cores) for p in one.shares]


def settings(one: Plan) -> dict[str, ShareSettings]:
    return {planned.result.request: planned.share.settings for planned in one.shares}


def test_each_result_keeps_its_own_limits_in_the_order_of_the_results() -> None:
    results = [
        share("small", "gpu-1", memory="4Gi", cores="30", share_id="s1"),
        share("big", "gpu-0", memory="8Gi", cores="60", share_id="s2"),
    ]
    assert limits(plan(*results)) == [("small", "gpu-1", 4, 30), ("big", "gpu-0", 8, 60)]
    assert limits(plan(*reversed(results))) == [("big", "gpu-0", 8, 60), ("small", "gpu-1", 4, 30)]


def test_two_shares_of_one_card_in_one_claim_keep_their_own_limits() -> None:
    both = plan(
        share("a", "gpu-0", memory="4Gi", cores="30", share_id="s1"),
        share("b", "gpu-0", memory="8Gi", cores="60", share_id="s2"),
    )
    assert limits(both) == [("a", "gpu-0", 4, 30), ("b", "gpu-0", 8, 60)]


def test_two_shares_of_one_card_for_one_request_have_two_keys() -> None:
    both = plan(share("a", "gpu-0", share_id="s1"), share("a", "gpu-0", share_id="s2"))
    assert len({planned.share.key for planned in both.shares}) == 2


def test_cores_that_are_not_mentioned_are_none_at_all() -> None:
    result = share("gpu", "gpu-0")
    del result["consumedCapacity"]["cores"]
    assert plan(result).shares[0].share.cores == 0


def test_memory_that_is_not_mentioned_is_refused() -> None:
    result = share("gpu", "gpu-0")
    del result["consumedCapacity"]["memory"]
    with pytest.raises(ObjectRejected, match="memory is missing") as caught:
        plan(result)
    assert caught.value.path == "status.allocation.devices.results[0].consumedCapacity"


def test_a_device_without_share_is_granted_whole() -> None:
    assert limits(plan(whole_device("gpu", "gpu-0"))) == [("gpu", "gpu-0", 16, 100)]


@pytest.mark.parametrize(("capacity", "amount"), [("memory", "17Gi"), ("memory", "-1"), ("cores", "101")])
def test_more_than_the_card_has_is_refused_with_the_field(capacity: str, amount: str) -> None:
    result = share("gpu", "gpu-0")
    result["consumedCapacity"][capacity] = amount
    with pytest.raises(ObjectRejected) as caught:
        plan(foreign("nic"), result)
    assert caught.value.path == f"status.allocation.devices.results[1].consumedCapacity[{capacity}]"


def test_results_of_other_drivers_are_left_to_them() -> None:
    assert limits(plan(foreign("nic"), share("gpu", "gpu-0"))) == [("gpu", "gpu-0", 4, 30)]


def test_a_claim_of_other_drivers_alone_names_them() -> None:
    with pytest.raises(ClaimNotReady, match=r"nothing of driver vgpu\.hami\.io .*nic\.example\.com"):
        plan(foreign("nic"))


def test_a_claim_without_allocation_is_not_ready() -> None:
    with pytest.raises(ClaimNotReady, match=r"ResourceClaim team-a/train: status\.allocation") as caught:
        make_plan(parse_claim(unallocated("train")), driver=DRIVER, cards=CARDS)
    assert caught.value.retriable


@pytest.mark.parametrize(
    "result", [share("gpu", "gpu-7"), share("gpu", "gpu-0", pool="node-b-nvidia"), whole_device("gpu", "gpu-7")]
)
def test_a_card_that_is_not_here_is_refused_with_those_that_are(result: dict[str, Any]) -> None:
    with pytest.raises(ObjectRejected, match=r"node-a-nvidia/gpu-0, node-a-nvidia/gpu-1") as caught:
        plan(result)
    assert caught.value.path == "status.allocation.devices.results[0].device"


# Share keys: folders, CDI devices and variables of running containers carry them.


def test_a_share_key_is_the_same_in_every_version_of_the_plugin() -> None:
    result = Result("ignored", "gpu", DRIVER, POOL, "gpu-0", "s1", {})
    assert share_key("6b0b3f0e-4c1e-4a4e-9a57-5c1d2b1f0a11", result) == "bdbd787bfee38ae9687a9faf8f7c4d82"


def test_a_share_key_is_a_dns_label_that_cdi_takes_as_a_device_name() -> None:
    key = plan(share("gpu/" + "x" * 60, "gpu-0")).shares[0].share.key
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", key)


def test_share_keys_differ_in_every_part_that_can_differ() -> None:
    parts = itertools.product(("u1", "u2"), ("a", "b", "a/b"), ("p", "q"), ("gpu-0", "gpu-1"), ("s1", "s2", None))
    keys = [share_key(uid, Result("", r, DRIVER, pool, device, s)) for uid, r, pool, device, s in parts]
    assert len(set(keys)) == len(keys) == 72


def test_parts_of_a_share_key_do_not_run_into_each_other() -> None:
    one = share_key("u", Result("", "ab", DRIVER, "c", "d"))
    assert one != share_key("u", Result("", "a", DRIVER, "bc", "d"))


def test_a_plan_made_again_is_the_same() -> None:
    results = (share("a", "gpu-0", share_id="s1"), share("b", "gpu-1", share_id="s2"))
    assert plan(*results) == plan(*results)


# Configs.


def test_the_claims_config_wins_over_the_classes_whatever_their_order() -> None:
    of_class = opaque(vgpu_config(computePolicy="burst", priority="high"), source="FromClass")
    of_claim = opaque(vgpu_config(priority="low"))
    for config in ([of_class, of_claim], [of_claim, of_class]):
        (one,) = settings(plan(share("gpu", "gpu-0"), config=config)).values()
        assert (one.compute_policy, one.priority) == (ComputePolicy.BURST, Priority.LOW)


def test_a_later_config_of_the_same_source_wins() -> None:
    config = [opaque(vgpu_config(logLevel="info", priority="high")), opaque(vgpu_config(logLevel="debug"))]
    (one,) = settings(plan(share("gpu", "gpu-0"), config=config)).values()
    assert (one.log_level, one.priority) == ("debug", Priority.HIGH)


def test_a_request_sees_only_the_configs_that_name_it_or_name_none() -> None:
    config = [
        opaque(vgpu_config(logLevel="info")),
        opaque(vgpu_config(priority="high"), "a"),
        opaque(vgpu_config(computePolicy="burst"), "b", "c"),
    ]
    found = settings(plan(share("a", "gpu-0", share_id="1"), share("b", "gpu-0", share_id="2"), config=config))
    assert found == {
        "a": ShareSettings(priority=Priority.HIGH, log_level="info"),
        "b": ShareSettings(compute_policy=ComputePolicy.BURST, log_level="info"),
    }


def test_a_subrequest_sees_the_configs_of_its_parent_and_its_own() -> None:
    config = [
        opaque(vgpu_config(priority="high"), "gpu"),
        opaque(vgpu_config(logLevel="debug"), "gpu/large"),
        opaque(vgpu_config(computePolicy="burst"), "gpu/small"),
    ]
    found = settings(plan(share("gpu/large", "gpu-0"), config=config))
    assert found == {"gpu/large": ShareSettings(priority=Priority.HIGH, log_level="debug")}


def test_configs_of_other_drivers_are_left_unread() -> None:
    config = [opaque({"apiVersion": "nic.example.com/v1", "kind": "Nic", "mtu": 9000}, driver="nic.example.com")]
    assert settings(plan(share("gpu", "gpu-0"), config=config)) == {"gpu": ShareSettings()}


def test_a_bad_config_names_its_place_in_the_claim() -> None:
    config = [opaque(vgpu_config()), opaque(vgpu_config(memory={"limit": "4Gi"}))]
    with pytest.raises(ConfigRejected, match="unknown field") as caught:
        plan(share("gpu", "gpu-0"), config=config)
    assert str(caught.value).startswith(
        "ResourceClaim team-a/train: status.allocation.devices.config[1].opaque.parameters.memory.limit:"
    )


def test_oversubscription_reaches_the_share() -> None:
    config = [opaque(vgpu_config(memory={"oversubscribe": {"hostMemory": "1.5Gi"}}))]
    (one,) = settings(plan(share("gpu", "gpu-0"), config=config)).values()
    assert one.host_memory == 3 << 29
