"""What every vendor's backend must do, on the vendor's own library: one suite for all of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from dra_driver.kube.nodes import Node
from dra_driver.kubeletplugin.publish import Pool, changes
from drivers.errors import BackendUnavailable, DeviceLost, DeviceNotFound, RuntimeNotReady, ShareRefused
from drivers.model import Device, Range, Share
from tests.contract.rig import Rig
from tests.support.slice_rules import violations

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
CDI_NAME = re.compile(r"[a-z0-9.-]+/[A-Za-z0-9_-]+=[A-Za-z0-9_.:-]+")
CODE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
NOW = "2026-01-01T00:00:00Z"


def share_of(device: Device, *, key: str = "c-1", memory: int | None = None, cores: int = 0) -> Share:
    """The smallest share of a card, or one of a given size."""
    policy = device.memory.policy
    assert policy is not None
    smallest = policy.minimum if isinstance(policy, Range) else policy.values[0]
    return Share(key=key, device=device, memory=smallest if memory is None else memory, cores=cores)


def test_every_card_of_an_intact_machine_is_told_healthy(rig: Rig) -> None:
    devices = rig.open().discover()
    assert len(devices) >= 2
    assert [device.unhealthy for device in devices] == [""] * len(devices)


def test_two_looks_at_an_unchanged_machine_tell_the_same_in_the_same_order(rig: Rig) -> None:
    backend = rig.open()
    assert backend.discover() == backend.discover()


def test_restarted_backend_tells_the_same_cards_under_the_same_names(rig: Rig) -> None:
    assert rig.open().discover() == rig.open().discover()


def test_cards_are_told_by_index_each_once(rig: Rig) -> None:
    devices = rig.open().discover()
    assert [device.index for device in devices] == sorted({device.index for device in devices})
    assert len({device.uuid for device in devices}) == len(devices)
    assert len({device.name for device in devices}) == len(devices)


def test_names_and_vendor_are_dns_labels(rig: Rig) -> None:
    backend = rig.open()
    devices = backend.discover()
    assert LABEL.fullmatch(backend.vendor)
    assert all(LABEL.fullmatch(device.name) for device in devices)
    assert {device.vendor for device in devices} == {backend.vendor}


def test_slice_made_of_the_cards_breaks_no_rule_of_the_api_server(rig: Rig) -> None:
    devices = rig.open().discover()
    pool = Pool(name="node-a-vendor", driver="vgpu.hami.io", node="node-a", devices=devices)
    slices = changes(pool, Node("node-a", "uid-1"), [], now=NOW).creations
    assert [violations(wire) for wire in slices] == [[]] * len(slices)
    assert sum(len(wire["spec"]["devices"]) for wire in slices) == len(devices)


def test_versions_can_be_published_as_semantic_versions(rig: Rig) -> None:
    for device in rig.open().discover():
        assert re.match(r"\d+\.\d+", device.driver_version)
        assert re.match(r"\d+\.\d+", device.runtime_version)


def test_claim_that_names_no_memory_gets_the_whole_card_and_no_cap_on_compute(rig: Rig) -> None:
    for device in rig.open().discover():
        assert device.memory.policy is not None
        assert device.memory.policy.default == device.memory.value
        assert device.cores.policy is not None
        assert device.cores.policy.default == 0


def test_each_share_counts_as_one_tenant(rig: Rig) -> None:
    for device in rig.open().discover():
        assert device.shares.value >= 1
        assert device.shares.policy is not None
        assert device.shares.policy.default == 1


def test_lost_card_is_told_with_its_last_description_and_the_others_are_undisturbed(rig: Rig) -> None:
    backend = rig.open()
    lost, *others = backend.discover()
    rig.lose(lost.uuid)
    told, *rest = backend.discover()
    assert told.unhealthy
    assert CODE.fullmatch(told.unhealthy_code)
    assert replace(told, unhealthy="", unhealthy_code="") == lost
    assert rest == others


def test_card_that_comes_back_is_told_as_before(rig: Rig) -> None:
    backend = rig.open()
    before = backend.discover()
    rig.lose(before[-1].uuid)
    assert backend.discover() != before
    rig.restore(before[-1].uuid)
    assert backend.discover() == before


def test_lost_card_is_logged_when_it_is_lost_and_when_it_is_back_and_not_in_between(rig: Rig) -> None:
    backend = rig.open()
    uuid = backend.discover()[0].uuid
    rig.lose(uuid)
    backend.discover()
    backend.discover()
    assert rig.log().count("card_unusable") == 1
    rig.restore(uuid)
    backend.discover()
    assert rig.log().count("card_usable_again") == 1
    assert uuid in rig.log()


def test_card_that_was_lost_before_the_start_hides_no_other(rig: Rig) -> None:
    before = rig.open().discover()
    rig.lose(before[0].uuid)
    restarted = rig.open()
    assert restarted.discover() == before[1:]
    rig.restore(before[0].uuid)
    assert restarted.discover() == before


def test_share_is_prepared_into_a_well_formed_injection(rig: Rig) -> None:
    backend = rig.open()
    for device in backend.discover():
        injection = backend.prepare(share_of(device))
        assert all(CDI_NAME.fullmatch(name) for name in injection.vendor_cdi_devices)
        assert all(re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) for name, _ in injection.environment)
        assert all(PurePosixPath(mount.container_path).is_absolute() for mount in injection.mounts)
        assert injection.shim or injection.mounts or injection.device_nodes or injection.environment


def test_second_prepare_gives_the_same_answer(rig: Rig) -> None:
    backend = rig.open()
    share = share_of(backend.discover()[0])
    assert backend.prepare(share) == backend.prepare(share)


def test_prepare_after_a_restart_gives_the_same_answer_without_discovery(rig: Rig) -> None:
    backend = rig.open()
    share = share_of(backend.discover()[0])
    before = backend.prepare(share)
    assert rig.open().prepare(share) == before


def test_shares_of_two_cards_are_injected_differently(rig: Rig) -> None:
    backend = rig.open()
    first, second, *_ = backend.discover()
    assert backend.prepare(share_of(first)) != backend.prepare(share_of(second, key="c-2"))


def test_card_that_is_not_on_this_node_is_not_found(rig: Rig) -> None:
    backend = rig.open()
    device = backend.discover()[0]
    stranger = replace(device, uuid=device.uuid[:-4] + "ffff")
    with pytest.raises(DeviceNotFound, match=stranger.uuid):
        backend.prepare(share_of(stranger))


def test_share_of_a_lost_card_fails_until_the_card_is_back_and_others_can_be_prepared(rig: Rig) -> None:
    backend = rig.open()
    lost, other, *_ = backend.discover()
    prepared = {device.uuid: backend.prepare(share_of(device)) for device in (lost, other)}
    rig.lose(lost.uuid)
    with pytest.raises(DeviceLost, match=lost.uuid) as caught:
        backend.prepare(share_of(lost))
    assert caught.value.retriable
    assert backend.prepare(share_of(other)) == prepared[other.uuid]
    rig.restore(lost.uuid)
    assert backend.prepare(share_of(lost)) == prepared[lost.uuid]


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("memory", {"memory": 0}),
        ("memory", {"memory": 2**60}),
        ("cores", {"cores": -1}),
        ("cores", {"cores": 101}),
    ],
)
def test_share_that_no_card_can_hold_is_refused_for_good_by_its_field(
    rig: Rig, field: str, changed: dict[str, int]
) -> None:
    backend = rig.open()
    share = replace(share_of(backend.discover()[0]), **changed)  # type: ignore[arg-type]
    with pytest.raises(ShareRefused, match=f"^{field}") as caught:
        backend.prepare(share)
    assert not caught.value.retriable


def test_share_of_another_vendors_card_is_refused(rig: Rig) -> None:
    backend = rig.open()
    with pytest.raises(ShareRefused, match="elsewhere"):
        backend.prepare(share_of(replace(backend.discover()[0], vendor="elsewhere")))


def test_unprepare_succeeds_for_the_unknown_the_prepared_and_the_undone(rig: Rig) -> None:
    backend = rig.open()
    device = backend.discover()[0]
    backend.unprepare("c-unknown", device.uuid)
    backend.prepare(share_of(device))
    backend.unprepare("c-1", device.uuid)
    backend.unprepare("c-1", device.uuid)
    backend.unprepare("c-1", "no-such-card")


def test_unprepare_succeeds_on_a_lost_card(rig: Rig) -> None:
    backend = rig.open()
    device = backend.discover()[0]
    backend.prepare(share_of(device))
    rig.lose(device.uuid)
    backend.unprepare("c-1", device.uuid)


def test_share_can_be_prepared_again_after_it_was_undone(rig: Rig) -> None:
    backend = rig.open()
    share = share_of(backend.discover()[0])
    before = backend.prepare(share)
    backend.unprepare(share.key, share.device.uuid)
    assert backend.prepare(share) == before


def test_missing_library_is_unavailable_and_worth_another_try(rig: Rig) -> None:
    device = rig.open().discover()[0]
    backend = rig.open_without_library()
    with pytest.raises(BackendUnavailable) as caught:
        backend.discover()
    assert caught.value.retriable
    with pytest.raises(BackendUnavailable):
        backend.prepare(share_of(device))
    backend.unprepare("c-1", device.uuid)
    backend.close()


def test_driver_that_goes_away_is_unavailable_and_is_used_again_when_it_is_back(rig: Rig) -> None:
    backend = rig.open()
    before = backend.discover()
    rig.unload_driver()
    with pytest.raises(BackendUnavailable):
        backend.discover()
    assert backend.discover() == before


def test_cards_that_no_container_could_be_given_are_not_offered(rig: Rig) -> None:
    backend = rig.open()
    before = backend.discover()
    rig.remove_runtime()
    with pytest.raises(RuntimeNotReady):
        backend.discover()
    with pytest.raises(RuntimeNotReady) as caught:
        backend.prepare(share_of(before[0]))
    assert caught.value.retriable
    rig.repair_runtime()
    assert backend.discover() == before


def test_one_card_that_no_container_could_be_given_is_unhealthy_alone(rig: Rig) -> None:
    backend = rig.open()
    before = backend.discover()
    rig.hide_from_runtime(before[0].uuid)
    told = backend.discover()
    assert told[0].unhealthy
    assert told[1:] == before[1:]
    rig.repair_runtime()
    assert backend.discover() == before


def test_closing_twice_and_without_any_use_is_harmless(rig: Rig) -> None:
    backend = rig.open()
    backend.close()
    backend.discover()
    backend.close()
    backend.close()
