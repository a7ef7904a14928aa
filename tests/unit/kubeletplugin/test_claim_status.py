"""What a claim's status says of our devices, as values."""

from __future__ import annotations

from dra_driver.kube.claims import Claim, parse_claim
from dra_driver.kubeletplugin.claim_status import failed_devices, ready_devices, says, wire_devices
from dra_driver.kubeletplugin.plan import Card, make_plan
from tests.support.backend import card
from tests.support.claims import DRIVER, POOL, JsonObject, allocated, foreign, opaque, share, vgpu_config, whole_device

CARDS = {(POOL, f"gpu-{index}"): Card(POOL, card(index)) for index in range(2)}
NOW = "2026-01-01T00:00:00Z"


def reported(wire: JsonObject, devices: list[JsonObject]) -> Claim:
    """The claim with this status."""
    return parse_claim({**wire, "status": {**wire["status"], "devices": devices}})


def ready(wire: JsonObject, *, now: str = NOW) -> list[JsonObject]:
    """The entries of the claim when it is prepared."""
    claim = parse_claim(wire)
    return wire_devices(ready_devices(make_plan(claim, driver=DRIVER, cards=CARDS), DRIVER), claim.reported, now=now)


def test_a_share_tells_its_card_its_size_and_its_policy() -> None:
    config = [opaque(vgpu_config(computePolicy="burst", priority="high"))]
    (entry,) = ready(allocated("train", foreign("nic"), share("gpu", "gpu-0", memory="1536Mi"), config=config))
    assert entry == {
        "driver": DRIVER,
        "pool": POOL,
        "device": "gpu-0",
        "shareID": "aaaa0001",
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Prepared", "message": "", "lastTransitionTime": NOW}
        ],
        "data": {
            "apiVersion": "vgpu.hami.io/v1alpha1",
            "kind": "GrantedShare",
            "uuid": card(0).uuid,
            "model": card(0).model,
            "memory": "1536Mi",
            "cores": 30,
            "computePolicy": "burst",
            "priority": "high",
        },
    }


def test_a_share_that_may_use_the_hosts_memory_tells_how_much() -> None:
    config = [opaque(vgpu_config(memory={"oversubscribe": {"hostMemory": "2048Mi"}}))]
    (entry,) = ready(allocated("train", share("gpu", "gpu-0"), config=config))
    assert entry["data"]["hostMemory"] == "2Gi"


def test_two_shares_of_one_card_have_an_entry_each_and_a_whole_card_has_no_share_id() -> None:
    entries = ready(
        allocated("train", share("a", "gpu-0"), share("b", "gpu-0", share_id="aaaa0002"), whole_device("c", "gpu-1"))
    )
    assert [entry.get("shareID") for entry in entries] == ["aaaa0001", "aaaa0002", None]


def test_a_failure_is_told_of_all_devices_of_ours_without_data() -> None:
    claim = parse_claim(allocated("train", foreign("nic"), share("a", "gpu-0"), share("b", "gpu-9", share_id="s2")))
    entries = wire_devices(
        failed_devices(claim, DRIVER, reason="OverCommitted", message="x" * 5000), claim.reported, now=NOW
    )
    assert [entry["device"] for entry in entries] == ["gpu-0", "gpu-9"]
    for entry in entries:
        (condition,) = entry["conditions"]
        assert (condition["status"], condition["reason"]) == ("False", "OverCommitted")
        assert len(condition["message"]) == 1024
        assert "data" not in entry


def test_the_time_of_transition_stays_while_readiness_does() -> None:
    wire = allocated("train", share("gpu", "gpu-0"))
    before = ready(wire, now="2025-01-01T00:00:00Z")
    again = reported(wire, before)
    plan = make_plan(again, driver=DRIVER, cards=CARDS)
    (kept,) = wire_devices(ready_devices(plan, DRIVER), again.reported, now=NOW)
    assert kept["conditions"][0]["lastTransitionTime"] == "2025-01-01T00:00:00Z"
    failed = failed_devices(again, DRIVER, reason="DeviceLost", message="gone")
    (changed,) = wire_devices(failed, again.reported, now=NOW)
    assert changed["conditions"][0]["lastTransitionTime"] == NOW


def test_what_is_said_already_is_recognised_beside_what_others_say() -> None:
    wire = allocated("train", foreign("nic"), share("gpu", "gpu-0"))
    other = {key: value for key, value in foreign("nic").items() if key != "request"}
    claim = reported(wire, [other, *ready(wire)])
    wanted = ready_devices(make_plan(claim, driver=DRIVER, cards=CARDS), DRIVER)
    assert says(claim.reported, DRIVER, wanted)
    assert not says(claim.reported, DRIVER, ())
    assert not says(claim.reported, DRIVER, failed_devices(claim, DRIVER, reason="X", message=""))
    assert says(reported(wire, [other]).reported, DRIVER, ())
