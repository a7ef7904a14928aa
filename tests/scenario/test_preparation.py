"""Prepare and Unprepare on a node: a whole state, one event, and the whole state after it."""

from __future__ import annotations

import pytest

from drivers.errors import DeviceLost
from drivers.shim_contract import read_usage
from tests.scenario.situation import PAIR, TRAIN, WHOLE, is_spoilt, spoil_usage
from tests.support.backend import card
from tests.support.claims import POOL, allocated, claim_uid, foreign, opaque, share, vgpu_config
from tests.support.node import EMPTY, MemoryNode, keys_of, ready, ref_of

# Prepare.


async def test_preparing_makes_the_share_its_spec_and_its_record(node: MemoryNode) -> None:
    (prepared,) = await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)
    assert node.state().shares == {prepared.key: (4 << 30, 30)}
    assert (prepared.request, prepared.pool, prepared.device, prepared.share_id) == ("gpu", POOL, "gpu-0", "t1")
    assert prepared.cdi_devices == (
        f"nvidia.com/gpu={card(0).uuid}",
        "vgpu.hami.io/shim=0123456789abcdef",
        f"vgpu.hami.io/share={prepared.key}",
        f"vgpu.hami.io/metadata={claim_uid('train')}_gpu",
    )


async def test_two_shares_of_one_card_keep_their_own_limits(node: MemoryNode) -> None:
    first, second = await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)
    assert node.state().shares == {first.key: (4 << 30, 30), second.key: (8 << 30, 60)}
    assert (first.request, second.request) == ("a", "b")


async def test_a_whole_card_is_prepared_with_all_that_it_has(node: MemoryNode) -> None:
    (prepared,) = await node.preparation.prepare(ref_of(WHOLE))
    assert prepared.share_id is None
    assert prepared.whole
    assert node.state().shares == {prepared.key: (16 << 30, 100)}


async def test_second_prepare_returns_the_recorded_answer(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    requests = len(node.api.requests)
    assert await node.preparation.prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert is_spoilt(node, key)
    assert node.backend.prepare_calls == [key]
    assert len(node.api.requests) == requests, "a recorded claim is answered without the API server"


async def test_prepare_after_a_restart_of_the_plugin_returns_the_recorded_answer(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    assert await node.start().prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert is_spoilt(node, key)


async def test_a_spec_that_somebody_removed_is_made_again_and_the_accounting_stays(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    node.spec_path(claim_uid("train")).unlink()
    assert await node.preparation.prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert is_spoilt(node, key)


async def test_a_claim_may_hold_cards_of_other_drivers_too(node: MemoryNode) -> None:
    mixed = allocated("mixed", foreign("nic"), share("gpu", "gpu-0"))
    node.given(mixed)
    (prepared,) = await node.preparation.prepare(ref_of(mixed))
    assert prepared.request == "gpu"
    assert node.state() == ready(mixed)


async def test_settings_of_the_claim_reach_the_backend(node: MemoryNode) -> None:
    config = [opaque(vgpu_config(computePolicy="burst", priority="high"), "gpu")]
    wire = allocated("burst", share("gpu", "gpu-0"), config=config)
    node.given(wire)
    await node.preparation.prepare(ref_of(wire))
    (prepared,) = node.backend.prepared.values()
    assert (prepared.settings.compute_policy.value, prepared.settings.priority.value) == ("burst", "high")


# Unprepare.


async def test_unpreparing_leaves_nothing(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))
    await node.preparation.unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_unpreparing_leaves_the_other_claims(node: MemoryNode) -> None:
    for wire in (TRAIN, WHOLE):
        await node.preparation.prepare(ref_of(wire))
    await node.preparation.unprepare(ref_of(WHOLE))
    assert node.state() == ready(TRAIN)


async def test_unpreparing_what_is_unknown_is_a_success(node: MemoryNode) -> None:
    await node.preparation.unprepare(ref_of(TRAIN))
    await node.preparation.prepare(ref_of(TRAIN))
    for _ in range(2):
        await node.preparation.unprepare(ref_of(TRAIN))
    assert node.state() == EMPTY


async def test_unpreparing_needs_no_api_server(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    requests = len(node.api.requests)
    await node.preparation.unprepare(ref_of(TRAIN))
    assert len(node.api.requests) == requests


async def test_a_backend_that_cannot_unprepare_keeps_the_record_until_it_can(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))

    def fail(_key: str) -> None:
        raise DeviceLost("gpu-0 does not answer")

    node.backend.on_unprepare = fail
    with pytest.raises(DeviceLost):
        await node.preparation.unprepare(ref_of(TRAIN))
    assert node.state().records == {"train": "STARTED"}
    node.backend.on_unprepare = lambda _key: None
    await node.start().unprepare(ref_of(TRAIN))
    assert node.state() == EMPTY


async def test_a_claim_can_be_prepared_again_after_unprepare(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    spoil_usage(node, first[0].key)
    await node.preparation.unprepare(ref_of(TRAIN))
    assert await node.preparation.prepare(ref_of(TRAIN)) == first
    assert read_usage(node.usage(first[0].key)).charged_bytes == 0
