"""A server without consumable capacity: the plugin says what is missing, and slots share the cards all the same."""

from __future__ import annotations

from tests.e2e.tenant import Tenant, pod, template
from tests.e2e.test_explain import vgpu
from tests.matrix.node import Node
from tests.stack.cards import GIB
from tests.waiting import eventually

SLOTS = {"mode": "slots", "slots": {"number": 4}}


def test_the_log_names_the_gate_and_what_it_means(node: Node) -> None:
    told = eventually(node.dropped, what="the plugin says what the server drops")
    assert told[0]["feature_gates"] == ["DRAConsumableCapacity"]
    assert "slots" in told[0]["means"][0]
    assert all("allowMultipleAllocations" not in device for device in node.devices().values())


def test_nothing_is_written_again_and_again(node: Node) -> None:
    """What the server drops would else differ forever."""
    versions = [wire["metadata"]["resourceVersion"] for wire in node.stack.slices()]
    before = len(node.dropped())
    eventually(lambda: len(node.dropped()) == before, what="no more is dropped")
    assert [wire["metadata"]["resourceVersion"] for wire in node.stack.slices()] == versions


def test_a_claim_gets_a_whole_card_and_is_held_to_it(tenant: Tenant) -> None:
    """What it asks for of the card is dropped by the server as well."""
    tenant.apply(template("slice", {"slice": {"memory": "4Gi", "cores": "30"}}))
    tenant.apply(pod("holder", "vgpu-probe fill --seconds 3600", claim_template="slice"))
    tenant.wait_running("holder")
    assert tenant.told("holder")["total"] == 16 * GIB
    (claim,) = tenant.claims_of("holder").values()
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    assert {"shareID", "consumedCapacity"}.isdisjoint(result)


def test_slots_share_a_card_and_each_is_held_to_its_size(node: Node, tenant: Tenant) -> None:
    node.publish(SLOTS, 8)
    tenant.apply(template("slot", {"slot": {}}))
    names = ("one", "two")
    for name in names:
        tenant.apply(pod(name, "vgpu-probe fill --seconds 3600", claim_template="slot"))
    for name in names:
        tenant.wait_running(name)
        told = tenant.told(name)
        assert (told["total"], told["one_byte_more"]) == (4 * GIB, "CUDA_ERROR_OUT_OF_MEMORY")
    busy = [card for card in tenant.stack.cards.state() if card.processes]
    assert [len(card.processes) for card in busy] == [2]


def test_what_a_slot_held_can_be_had_again(node: Node, tenant: Tenant) -> None:
    node.publish(SLOTS, 8)
    tenant.apply(template("slot", {"slot": {}}))
    names = [f"pod-{number}" for number in range(9)]
    for name in names:
        tenant.apply(pod(name, "exec sleep 3600", claim_template="slot"))
    running = eventually(lambda: _running(tenant, 8), what="eight of nine run, each on a slot of its own")
    (waiting,) = set(names) - running
    tenant.delete("pod", running.pop())
    tenant.wait_running(waiting)


def test_kubectl_vgpu_shows_cards_and_says_why_a_claim_waits(node: Node, tenant: Tenant) -> None:
    node.publish(SLOTS, 8)
    assert len(vgpu(tenant, "devices")) == 8
    rare = template("rare", {"slot": {}})
    expression = 'device.attributes["vgpu.hami.io"].model == "No Such Card"'
    rare["spec"]["spec"]["devices"]["requests"][0]["exactly"]["selectors"] = [{"cel": {"expression": expression}}]
    tenant.apply(rare, pod("choosy", "exec sleep 3600", claim_template="rare"))
    eventually(lambda: tenant.every("resourceclaims"), what="the claim is made")
    explained = vgpu(tenant, "explain", "pod/choosy", code=2)
    assert [reason["code"] for reason in explained["reasons"]] == ["RequestSelector"]


def test_a_broken_card_is_withdrawn_since_the_server_drops_its_taint(node: Node) -> None:
    node.publish({}, 2)
    node.stack.cards.control("lose", "0")
    try:
        eventually(lambda: len(node.devices()) == 1, what="the card takes no new work")
        assert "DRADeviceTaints" in node.dropped()[-1]["feature_gates"]
    finally:
        node.stack.cards.control("heal")
    eventually(lambda: len(node.devices()) == 2, what="it is back")


def _running(tenant: Tenant, number: int) -> set[str]:
    found = {pod["metadata"]["name"] for pod in tenant.every("pods") if pod["status"]["phase"] == "Running"}
    return found if len(found) == number else set()
