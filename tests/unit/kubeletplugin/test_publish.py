"""What is published of a node's cards, and by which writes."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from dra_driver.kube.nodes import Node
from dra_driver.kubeletplugin.publish import (
    Changes,
    Pool,
    changes,
    dropped_fields,
    pool_name,
    semantic_version,
    wire_devices,
)
from drivers.model import Capacity, Device, Range, Values
from tests.support.backend import GIB, MIB, card, cards
from tests.support.claims import DRIVER, NODE, POOL, JsonObject
from tests.support.slice_rules import violations

OWNER = Node(NODE, "node-uid")
NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-02T00:00:00Z"


def pool(*devices: Device) -> Pool:
    return Pool(POOL, DRIVER, NODE, devices)


def served(wanted: Changes, before: list[JsonObject] | None = None) -> list[JsonObject]:
    """What the server holds after the writes."""
    deleted = {wire["metadata"]["name"] for wire in wanted.deletions}
    after = {wire["metadata"]["name"]: wire for wire in before or [] if wire["metadata"]["name"] not in deleted}
    after |= {wire["metadata"]["name"]: copy.deepcopy(wire) for wire in wanted.replacements}
    for wire in wanted.creations:
        name = wire["metadata"]["generateName"] + "abcde"
        metadata = {**wire["metadata"], "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
        after[name] = {**copy.deepcopy(wire), "metadata": metadata}
    return list(after.values())


def published(*devices: Device) -> list[JsonObject]:
    return served(changes(pool(*devices), OWNER, [], now=NOW))


def pools(wires: list[JsonObject]) -> list[tuple[int, int, int]]:
    """Generation, slice count and number of devices, in the order in which the allocator sees the slices."""
    wires = sorted(wires, key=lambda wire: str(wire["metadata"]["name"]))
    return [
        (w["spec"]["pool"]["generation"], w["spec"]["pool"]["resourceSliceCount"], len(w["spec"]["devices"]))
        for w in wires
    ]


def counts(wanted: Changes) -> tuple[int, int, int]:
    return len(wanted.deletions), len(wanted.replacements), len(wanted.creations)


# The device.


def test_a_card_is_published_with_what_users_choose_by() -> None:
    device = dataclasses.replace(card(3), pcie_root="pci0000:00", numa_node=0, link_group="nv0", model="A100")
    (wire,) = wire_devices(pool(device), [], now=NOW)
    assert wire == {
        "name": "gpu-3",
        "attributes": {
            "vendor": {"string": "nvidia"},
            "type": {"string": "gpu"},
            "model": {"string": "A100"},
            "uuid": {"string": "GPU-00000000-0000-0000-0000-000000000003"},
            "index": {"int": 3},
            "architecture": {"string": "Ampere"},
            "mode": {"string": "shared"},
            "memoryIsolation": {"string": "soft"},
            "computeControl": {"string": "soft"},
            "linkGroup": {"string": "nv0"},
            "driverVersion": {"version": "580.65.6"},
            "runtimeVersion": {"version": "13.0.0"},
            "resource.kubernetes.io/pciBusID": {"string": "0000:03:00.0"},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0000:00"},
            "resource.kubernetes.io/numaNode": {"int": 0},
        },
        "capacity": {
            "memory": {
                "value": "16Gi",
                "requestPolicy": {"default": "16Gi", "validRange": {"min": "1Mi", "max": "16Gi", "step": "1Mi"}},
            },
            "cores": {
                "value": "100",
                "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}},
            },
            "shares": {"value": "10", "requestPolicy": {"default": "1", "validValues": ["1"]}},
        },
        "allowMultipleAllocations": True,
    }


def test_what_is_not_known_of_a_card_is_left_out() -> None:
    bare = dataclasses.replace(
        card(0), pci_bus_id="", pcie_root="", numa_node=None, driver_version="", runtime_version="n/a", architecture=""
    )
    (wire,) = wire_devices(pool(bare), [], now=NOW)
    left_out = {"resource.kubernetes.io/pciBusID", "resource.kubernetes.io/pcieRoot", "driverVersion", "runtimeVersion"}
    left_out |= {"resource.kubernetes.io/numaNode", "architecture", "linkGroup"}
    assert not left_out & set(wire["attributes"])


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("535.104.05", "535.104.5"),
        ("13.0", "13.0.0"),
        ("13", "13.0.0"),
        ("580.65.06-open", "580.65.6"),
        ("1.2.3.4", "1.2.3"),
        ("", ""),
        ("unknown", ""),
    ],
)
def test_versions_of_vendors_become_semantic_versions(text: str, version: str) -> None:
    assert semantic_version(text) == version


def test_what_a_vendor_calls_a_card_is_cut_to_64_bytes_between_characters() -> None:
    (wire,) = wire_devices(pool(card(0, model="卡" * 30)), [], now=NOW)
    assert wire["attributes"]["model"] == {"string": "卡" * 21}


ODD_CARDS = [
    card(0, memory=16 * GIB - MIB),
    card(0, memory=2 * MIB),
    card(0, shares=1),
    card(0, unhealthy="fell off the bus"),
    card(0, model="é" * 500),
    dataclasses.replace(card(0), cores=Capacity(100, Values((25, 50, 100), 100))),
    dataclasses.replace(card(0), cores=Capacity(100, Range(5, 100, 5, 5))),
    dataclasses.replace(card(0), cores=Capacity(100)),
]


@pytest.mark.parametrize("device", ODD_CARDS)
def test_every_card_is_within_the_limits_of_kubernetes(device: Device) -> None:
    (wire,) = published(device)
    assert violations(wire) == []


def test_the_rules_that_slices_are_held_to_can_be_broken() -> None:
    def spoilt(spoil: str) -> list[str]:
        (wire,) = published(card(0))
        device: Any = wire["spec"]["devices"][0]
        match spoil:
            case "name":
                device["name"] = "GPU_0"
            case "policy":
                del device["allowMultipleAllocations"]
            case "default":
                device["capacity"]["memory"]["requestPolicy"]["default"] = "17Gi"
            case "step":
                device["capacity"]["memory"]["requestPolicy"]["validRange"]["step"] = "3Gi"
            case "text":
                device["attributes"]["model"] = {"string": "x" * 65}
            case "version":
                device["attributes"]["driverVersion"] = {"version": "535.104.05"}
        return violations(wire)

    for spoil in ("name", "policy", "default", "step", "text", "version"):
        assert spoilt(spoil), spoil


def test_pools_are_named_by_node_and_vendor() -> None:
    assert pool_name("node-a", "nvidia") == "node-a-nvidia"


# Slices and generations.


def test_a_first_publication_creates_one_slice_of_generation_one() -> None:
    wanted = changes(pool(*cards(2)), OWNER, [], now=NOW)
    (wire,) = wanted.creations
    assert counts(wanted) == (0, 0, 1)
    assert wire["spec"]["pool"] == {"name": POOL, "generation": 1, "resourceSliceCount": 1}
    assert (wire["spec"]["driver"], wire["spec"]["nodeName"]) == (DRIVER, NODE)
    assert wire["metadata"] == {
        "generateName": "00-vgpu.hami.io-node-a-",
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "node-uid", "controller": True},
        ],
    }


def test_an_empty_pool_is_one_empty_slice() -> None:
    assert pools(published()) == [(1, 1, 0)]


def test_nothing_is_written_when_nothing_has_changed() -> None:
    for devices in ((), cards(2), cards(200), cards(3, unhealthy="lost")):
        assert not changes(pool(*devices), OWNER, published(*devices), now=LATER)


def test_the_same_things_in_other_words_are_the_same() -> None:
    before = published(card(0, memory=GIB))
    device = before[0]["spec"]["devices"][0]
    device["capacity"]["memory"]["value"] = "1024Mi"
    device["capacity"]["memory"]["requestPolicy"]["validRange"]["max"] = "1048576Ki"
    device["capacity"]["cores"]["value"] = 100
    device["taints"] = []
    device["bindingConditions"] = None
    assert not changes(pool(card(0, memory=GIB)), OWNER, before, now=LATER)


def test_the_order_of_the_devices_counts() -> None:
    first, second = cards(2)
    assert changes(pool(second, first), OWNER, published(first, second), now=LATER)


def test_one_changed_slice_is_updated_and_keeps_the_generation() -> None:
    before = published(*cards(2))
    wanted = changes(pool(card(0), card(1, unhealthy="lost")), OWNER, before, now=LATER)
    assert counts(wanted) == (0, 1, 0)
    assert pools(served(wanted, before)) == [(1, 1, 2)]
    assert wanted.replacements[0]["metadata"] == before[0]["metadata"]


def test_a_card_more_in_the_same_slice_keeps_the_generation() -> None:
    before = published(*cards(2))
    wanted = changes(pool(*cards(3)), OWNER, before, now=LATER)
    assert counts(wanted) == (0, 1, 0)
    assert pools(served(wanted, before)) == [(1, 1, 3)]


def test_two_changed_slices_raise_the_generation_of_all() -> None:
    before = published(*cards(130))
    devices = [card(0, unhealthy="lost"), *cards(130)[1:129], card(129, unhealthy="lost")]
    wanted = changes(pool(*devices), OWNER, before, now=LATER)
    assert counts(wanted) == (0, 3, 0)
    assert pools(served(wanted, before)) == [(2, 3, 64), (2, 3, 64), (2, 3, 2)]


def test_a_slice_more_raises_the_generation_and_the_count_of_all() -> None:
    before = published(*cards(64))
    wanted = changes(pool(*cards(65)), OWNER, before, now=LATER)
    assert counts(wanted) == (0, 1, 1)
    assert pools(served(wanted, before)) == [(2, 2, 64), (2, 2, 1)]


def test_a_slice_less_is_deleted_and_raises_the_generation() -> None:
    before = published(*cards(65))
    wanted = changes(pool(*cards(64)), OWNER, before, now=LATER)
    assert counts(wanted) == (1, 1, 0)
    assert pools(served(wanted, before)) == [(2, 1, 64)]


def test_a_pool_that_becomes_empty_keeps_one_empty_slice() -> None:
    before = published(*cards(65))
    wanted = changes(pool(), OWNER, before, now=LATER)
    assert pools(served(wanted, before)) == [(2, 1, 0)]


def test_slices_of_older_generations_are_deleted_and_the_highest_one_is_exceeded() -> None:
    before = published(*cards(1))
    newer = copy.deepcopy(before[0])
    newer["metadata"] |= {"name": "00-newer", "uid": "uid-newer"}
    newer["spec"]["pool"]["generation"] = 7
    wanted = changes(pool(*cards(1)), OWNER, [*before, newer], now=LATER)
    assert [wire["metadata"]["uid"] for wire in wanted.deletions] == [before[0]["metadata"]["uid"]]
    assert pools(served(wanted, [*before, newer])) == [(8, 1, 1)]


def test_a_slice_that_somebody_has_deleted_is_made_again() -> None:
    before = published(*cards(65))
    wanted = changes(pool(*cards(65)), OWNER, before[:1], now=LATER)
    assert counts(wanted) == (0, 1, 1)
    assert pools(served(wanted, before[:1])) == [(2, 2, 64), (2, 2, 1)]


def test_a_wrong_slice_count_is_put_right() -> None:
    before = published(*cards(1))
    before[0]["spec"]["pool"]["resourceSliceCount"] = 3
    wanted = changes(pool(*cards(1)), OWNER, before, now=LATER)
    assert pools(served(wanted, before)) == [(2, 1, 1)]


@pytest.mark.parametrize(
    ("number", "sizes"), [(64, [64]), (65, [64, 1]), (128, [64, 64]), (129, [64, 64, 1]), (200, [64, 64, 64, 8])]
)
def test_many_cards_are_cut_into_slices_that_hold_tainted_ones_too(number: int, sizes: list[int]) -> None:
    for devices in (cards(number), cards(number, unhealthy="lost")):
        wires = published(*devices)
        assert [size for _, _, size in pools(wires)] == sizes
        assert [problem for wire in wires for problem in violations(wire)] == []


def test_the_allocator_meets_the_cards_in_the_order_of_the_backend() -> None:
    devices = tuple(reversed(cards(200)))
    wires = sorted(published(*devices), key=lambda wire: str(wire["metadata"]["name"]))
    assert [device["name"] for wire in wires for device in wire["spec"]["devices"]] == [d.name for d in devices]


def test_fields_of_a_newer_server_survive_a_replacement() -> None:
    before = published(*cards(1))
    before[0]["metadata"]["annotations"] = {"kept": "yes"}
    (wire,) = changes(pool(*cards(2)), OWNER, before, now=LATER).replacements
    assert wire["metadata"]["annotations"] == {"kept": "yes"}


# Health.


def test_an_unhealthy_card_is_tainted_and_not_hidden() -> None:
    (wire,) = published(card(0, unhealthy="XID 79: fell off the bus"))
    assert wire["spec"]["devices"][0]["taints"] == [
        {"key": "vgpu.hami.io/unhealthy", "value": "true", "effect": "NoSchedule", "timeAdded": NOW}
    ]


def test_a_taint_that_stays_keeps_its_time() -> None:
    before = published(card(0, unhealthy="lost"), card(1))
    wanted = changes(pool(card(0, unhealthy="lost"), card(1, unhealthy="lost")), OWNER, before, now=LATER)
    times = [device["taints"][0]["timeAdded"] for device in wanted.replacements[0]["spec"]["devices"]]
    assert times == [NOW, LATER]


def test_a_card_that_recovers_loses_its_taint() -> None:
    (wire,) = changes(pool(card(0)), OWNER, published(card(0, unhealthy="lost")), now=LATER).replacements
    assert "taints" not in wire["spec"]["devices"][0]


# Feature gates that are off.


def answer_without(wire: JsonObject, *names: str) -> JsonObject:
    answer = copy.deepcopy(wire)
    for device in answer["spec"]["devices"]:
        for name in names:
            device.pop(name, None)
        if "requestPolicy" in names:
            for capacity in device["capacity"].values():
                capacity.pop("requestPolicy")
    return answer


def test_fields_that_the_server_drops_are_named() -> None:
    (wire,) = published(card(0, unhealthy="lost"))
    assert dropped_fields(wire, answer_without(wire)) == frozenset()
    assert dropped_fields(wire, answer_without(wire, "taints")) == {"taints"}
    answer = answer_without(wire, "allowMultipleAllocations", "requestPolicy")
    assert dropped_fields(wire, answer) == {"allowMultipleAllocations", "capacity.requestPolicy"}


def test_an_answer_in_other_words_has_dropped_nothing() -> None:
    (wire,) = published(card(0))
    answer = copy.deepcopy(wire)
    answer["spec"]["devices"][0]["capacity"]["memory"]["value"] = "16384Mi"
    assert dropped_fields(wire, answer) == frozenset()


def test_what_the_server_will_not_keep_is_not_written_again_and_again() -> None:
    (wire,) = published(card(0))
    answer = answer_without(wire, "allowMultipleAllocations", "requestPolicy")
    without = dropped_fields(wire, answer)
    assert not changes(pool(card(0)), OWNER, [answer], now=LATER, without=without)
    assert changes(pool(card(0, memory=GIB)), OWNER, [answer], now=LATER, without=without)


def test_a_card_whose_taint_the_server_drops_is_withdrawn() -> None:
    (wire,) = published(card(0, unhealthy="lost"), card(1))
    answer = answer_without(wire, "taints")
    without = dropped_fields(wire, answer)
    changed = changes(pool(card(0, unhealthy="lost"), card(1)), OWNER, [answer], now=LATER, without=without)
    (written,) = changed.replacements
    assert [device["name"] for device in written["spec"]["devices"]] == ["gpu-1"]
    assert not changes(pool(card(0, unhealthy="lost"), card(1)), OWNER, [written], now=LATER, without=without)
