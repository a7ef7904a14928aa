"""A card that fails takes no new work, those who hold it see why, and it comes back by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.tenant import Tenant, pod, template
from tests.stack.stack import Stack
from tests.waiting import eventually

QUIET_SECONDS = 5


def configuration(cards: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "NodeConfig", "cards": cards})


@pytest.fixture(scope="module")
def node_config(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The node's configuration file; the plugin reads it, and forgets faults after a short time."""
    file = tmp_path_factory.mktemp("config") / "node.yaml"
    file.write_text(configuration({}))
    _restart(stack, fault_quiet_seconds=str(QUIET_SECONDS), config_file=str(file))
    yield file
    _restart(stack)


@pytest.fixture
def holder(node_config: Path, tenant: Tenant) -> Iterator[Tenant]:
    """A tenant with a pod on a card. Afterwards the cards are intact."""
    tenant.apply(template("slice", {"slice": {"memory": "4Gi"}}))
    tenant.apply(pod("holder", "exec sleep 3600", claim_template="slice"))
    tenant.wait_running("holder")
    yield tenant
    tenant.stack.cards.control("heal")


def _restart(stack: Stack, **settings: str) -> None:
    stack.plugin.stop()
    stack.plugin.start(**settings)
    stack.wait_published()


def devices(stack: Stack) -> dict[str, dict[str, Any]]:
    return {device["name"]: device for wire in stack.slices() for device in wire["spec"].get("devices") or []}


def card_of(tenant: Tenant, name: str) -> tuple[str, int]:
    """The device of a pod, and the number by which the machine knows it."""
    (claim,) = tenant.claims_of(name).values()
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    device: str = result["device"]
    return device, int(devices(tenant.stack)[device]["attributes"]["index"]["int"])


def taints(stack: Stack, device: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = devices(stack)[device].get("taints", [])
    return found


def health(tenant: Tenant, name: str) -> list[tuple[str, str]]:
    """Health and message of the shares, as the pod's status tells them."""
    return [
        (resource["health"], resource.get("message", ""))
        for container in tenant.get("pod", name)["status"]["containerStatuses"]
        for entry in container.get("allocatedResourcesStatus", [])
        for resource in entry["resources"]
    ]


def test_an_xid_taints_the_card_and_its_pod_sees_it_until_the_card_was_quiet(holder: Tenant) -> None:
    device, index = card_of(holder, "holder")
    eventually(lambda: health(holder, "holder") == [("Healthy", "")], what="the pod sees a healthy card")
    raised = time.monotonic()
    holder.stack.cards.control("xid", str(index), "95")
    (taint,) = eventually(lambda: taints(holder.stack, device), what="the card is tainted", every=0.1)
    assert time.monotonic() - raised < QUIET_SECONDS
    assert (taint["key"], taint["value"], taint["effect"]) == ("vgpu.hami.io/unhealthy", "xid-95", "NoSchedule")
    eventually(
        lambda: health(holder, "holder") == [("Unhealthy", "XID 95: uncontained memory error")],
        what="the pod sees the fault",
        every=0.1,
    )
    eventually(lambda: not taints(holder.stack, device), what="the taint is gone")
    assert time.monotonic() - raised >= QUIET_SECONDS
    eventually(lambda: health(holder, "holder") == [("Healthy", "")], what="the pod sees the card healthy again")


def test_an_xid_that_a_program_brought_about_is_not_held_against_the_card(node_config: Path, stack: Stack) -> None:
    stack.cards.control("xid", "0", "31")
    eventually(lambda: '"xid_of_a_program"' in stack.plugin.log, what="the XID is heard")
    assert [device for device in devices(stack) if taints(stack, device)] == []


def test_a_lost_card_takes_no_new_pod_until_it_is_back(holder: Tenant) -> None:
    device, index = card_of(holder, "holder")
    others = [other for other in devices(holder.stack) if other != device]
    holder.stack.cards.control("lose", str(index))
    (taint,) = eventually(lambda: taints(holder.stack, device), what="the card is tainted")
    assert taint["value"] == "lost"
    # The other card is the only place left, and the claim may not go there.
    wanted = template("same-card", {"slice": {"memory": "1Gi"}})
    uuid = devices(holder.stack)[device]["attributes"]["uuid"]["string"]
    (request,) = wanted["spec"]["spec"]["devices"]["requests"]
    request["exactly"]["selectors"] = [{"cel": {"expression": f'device.attributes["vgpu.hami.io"].uuid == "{uuid}"'}}]
    holder.apply(wanted)
    holder.apply(pod("waits", "exec sleep 3600", claim_template="same-card"))
    eventually(lambda: any("FailedScheduling" in event for event in holder.events("waits")), what="no place for it")
    holder.apply(pod("elsewhere", "exec sleep 3600", claim_template="slice"))
    holder.wait_running("elsewhere")
    assert card_of(holder, "elsewhere")[0] in others
    since = taint["timeAdded"]
    assert [one["timeAdded"] for one in taints(holder.stack, device)] == [since]
    holder.stack.cards.control("restore", str(index))
    holder.wait_running("waits")
    assert taints(holder.stack, device) == []


def test_slots_are_allocated_and_enforced_as_published_and_a_card_in_use_keeps_its_devices(
    holder: Tenant, node_config: Path
) -> None:
    (held, _) = card_of(holder, "holder")
    try:
        node_config.write_text(configuration({"mode": "slots", "slots": {"number": 4, "cores": 25}}))
        eventually(lambda: taints(holder.stack, held), what="the card in use is drained")
        assert [taint["key"] for taint in taints(holder.stack, held)] == ["vgpu.hami.io/draining"]
        holder.apply(pod("in-slot", "exec sleep 3600", claim_template="slice"))
        holder.wait_running("in-slot")
        (grant,) = holder.granted("in-slot", holder.get("pod", "in-slot")["spec"]["containers"][0])
        assert "-slot-" in grant.device
        assert holder.show("in-slot")["cuda"][0]["total"] == 4 << 30
        holder.kubectl("delete", "pod", "holder")
        eventually(lambda: f"{held}-slot-0" in devices(holder.stack), what="the card is cut once it is free")
        node_config.write_text(configuration({"mode": "excluded"}))
        eventually(lambda: f"{held}-slot-0" not in devices(holder.stack), what="the free card is excluded")
        assert grant.device in devices(holder.stack), "the one in use stays"
    finally:
        node_config.write_text(configuration({}))
        holder.kubectl("delete", "pod", "--all")
        eventually(
            lambda: all("-slot-" not in name for name in devices(holder.stack)) and len(devices(holder.stack)) == 2,
            what="the cards are shared again",
        )
