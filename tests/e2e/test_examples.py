"""Every example: what each container sees is exactly what its own requests were granted."""

from __future__ import annotations

from collections import Counter

import pytest

from dra_driver.kube.quantities import whole
from tests.e2e.tenant import Granted, Tenant, Wire
from tests.stack.places import EXAMPLES

# The migration needs the controller: test_controller_migration.py.
FOLDERS = sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir() and folder.name != "migration")


@pytest.mark.parametrize("example", FOLDERS)
def test_each_container_sees_its_own_requests_and_nothing_else(tenant: Tenant, example: str) -> None:
    pods = tenant.apply_folder(EXAMPLES / example)
    assert pods, f"{example} has no pod"
    for pod in pods:
        tenant.wait_running(pod["metadata"]["name"])
        for container in pod["spec"]["containers"]:
            check_container(tenant, pod["metadata"]["name"], container)


def check_container(tenant: Tenant, pod: str, container: Wire) -> None:
    """Compare what a container tells with what the allocation says."""
    granted = tenant.granted(pod, container)
    uuids = uuids_by_device(tenant)
    told = tenant.told(pod, container["name"])
    memory: Counter[str] = Counter()
    for grant in granted:
        memory[uuids[grant.device]] += memory_of(grant) + whole(grant.host_memory)
    assert {device["uuid"]: device["total"] for device in told["cuda"]} == dict(memory)
    assert {device["uuid"]: device["total"] for device in told["nvml"]} == dict(memory)
    assert all(device["free"] <= device["total"] for device in told["cuda"] + told["nvml"])
    assert sorted(told["shares"].values()) == sorted(words_of(grant, uuids) for grant in granted)
    assert len(told["nodes"]) == len(memory)


def memory_of(grant: Granted) -> int:
    assert grant.consumed is not None, "the scheduler gives shares of our devices"
    return whole(grant.consumed["memory"])


def words_of(grant: Granted, uuids: dict[str, str]) -> str:
    assert grant.consumed is not None
    cores = whole(grant.consumed["cores"])
    words = f"uuid={uuids[grant.device]},memory={memory_of(grant)},cores={cores},policy=fixed,priority=low"
    swap = whole(grant.host_memory)
    return f"{words},swap={swap}" if swap else words


def uuids_by_device(tenant: Tenant) -> dict[str, str]:
    return {
        device["name"]: device["attributes"]["uuid"]["string"]
        for wire in tenant.stack.slices()
        for device in wire["spec"]["devices"]
    }


def all_grants(tenant: Tenant, pod: str) -> list[Granted]:
    wire = tenant.get("pod", pod)
    return [grant for container in wire["spec"]["containers"] for grant in tenant.granted(pod, container)]


def test_two_slices_with_one_uuid_are_on_one_card(tenant: Tenant) -> None:
    tenant.apply_folder(EXAMPLES / "same-card-twice")
    tenant.wait_running("same-card-twice")
    left, right = all_grants(tenant, "same-card-twice")
    assert left.device == right.device
    assert left.share_id != right.share_id


def test_two_cards_are_two(tenant: Tenant) -> None:
    tenant.apply_folder(EXAMPLES / "two-cards")
    tenant.wait_running("two-cards")
    first, second = all_grants(tenant, "two-cards")
    assert first.device != second.device


def test_a_prioritised_list_falls_back_when_no_card_has_room(tenant: Tenant) -> None:
    pods = tenant.apply_folder(EXAMPLES / "prioritized-list")
    for pod in pods:
        tenant.wait_running(pod["metadata"]["name"])
    chosen = Counter(all_grants(tenant, pod["metadata"]["name"])[0].request for pod in pods)
    assert chosen == {"slice/large": 2, "slice/small": 1}


def test_a_claim_that_asks_for_nothing_gets_the_whole_card(tenant: Tenant) -> None:
    tenant.apply_folder(EXAMPLES / "whole-card")
    tenant.wait_running("whole-card")
    (grant,) = all_grants(tenant, "whole-card")
    card = next(card for card in tenant.stack.cards.state() if card.uuid == uuids_by_device(tenant)[grant.device])
    assert memory_of(grant) == card.total
