"""A plugin that dies, a node that boots anew: what the next call makes of what was left."""

from __future__ import annotations

import pytest

from dra_driver.errors import OverCommitted
from dra_driver.kubeletplugin.checkpoint import Checkpoint, PreparedClaim, State
from drivers.errors import DeviceLost
from drivers.model import Share
from drivers.shim_contract import read_usage
from tests.scenario.situation import PAIR, TRAIN, spoil_usage
from tests.support.claims import JsonObject, allocated, share
from tests.support.node import EMPTY, Crash, MemoryNode, NodeState, keys_of, ready, ref_of

# Crashes.


async def crash_while_preparing(node: MemoryNode, wire: JsonObject, *, at_share: int) -> None:
    calls = 0

    def die(_share: Share) -> None:
        nonlocal calls
        calls += 1
        if calls > at_share:
            raise Crash

    node.backend.on_prepare = die
    with pytest.raises(Crash):
        await node.preparation.prepare(ref_of(wire))
    node.backend.on_prepare = lambda _share: None


@pytest.mark.parametrize("at_share", [0, 1])
async def test_prepare_after_a_crash_finishes_what_was_begun(node: MemoryNode, at_share: int) -> None:
    await crash_while_preparing(node, PAIR, at_share=at_share)
    assert node.state().records == {"pair": "STARTED"}
    assert len(node.state().shares) == at_share
    await node.start().prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


@pytest.mark.parametrize("at_share", [0, 1])
async def test_unprepare_after_a_crash_takes_back_what_was_begun(node: MemoryNode, at_share: int) -> None:
    await crash_while_preparing(node, PAIR, at_share=at_share)
    await node.start().unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_crash_between_the_spec_and_the_record_is_made_good(
    node: MemoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Checkpoint.put

    def die_before_completed(checkpoint: Checkpoint, claim: PreparedClaim) -> None:
        if claim.state is State.COMPLETED:
            raise Crash
        put(checkpoint, claim)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "put", die_before_completed)
        with pytest.raises(Crash):
            await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == NodeState(
        records={"train": "STARTED"},
        specs=ready(TRAIN).specs,
        shares=ready(TRAIN).shares,
        backend=ready(TRAIN).backend,
    )
    await node.start().prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)


async def test_a_crash_while_unpreparing_is_finished_by_the_next_unprepare(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))

    def die(_key: str) -> None:
        raise Crash

    node.backend.on_unprepare = die
    with pytest.raises(Crash):
        await node.preparation.unprepare(ref_of(PAIR))
    assert node.state().records == {"pair": "STARTED"}
    node.backend.on_unprepare = lambda _key: None
    await node.start().unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_crash_while_unpreparing_can_also_be_followed_by_a_prepare(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))

    def die(_key: str) -> None:
        raise Crash

    node.backend.on_unprepare = die
    with pytest.raises(Crash):
        await node.preparation.unprepare(ref_of(PAIR))
    node.backend.on_unprepare = lambda _key: None
    await node.start().prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


async def test_what_a_crash_has_begun_counts_as_held(node: MemoryNode) -> None:
    await crash_while_preparing(node, PAIR, at_share=0)
    node.given(big := allocated("big", share("gpu", "gpu-0", memory="8Gi", cores="0", share_id="b1")))
    with pytest.raises(OverCommitted, match="team-a/pair"):
        await node.start().prepare(ref_of(big))


async def test_an_allocation_made_anew_after_a_crash_leaves_nothing_of_the_old_one(node: MemoryNode) -> None:
    await crash_while_preparing(node, PAIR, at_share=1)
    anew = allocated("pair", share("a", "gpu-1", share_id="n1"), share("b", "gpu-1", share_id="n2"))
    node.given(anew)
    await node.start().prepare(ref_of(anew))
    assert node.state() == ready(anew)


# Reboots.


async def test_after_a_reboot_prepare_makes_everything_anew(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    assert await node.reboot().prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert read_usage(node.usage(key)).processes == ()


async def test_after_a_reboot_a_spec_that_survived_is_not_relied_on(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    node.backend.prepared.clear()
    await node.start(boot_id="boot-2").prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)


async def test_an_attempt_that_fails_after_a_reboot_does_not_make_it_forgotten(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    preparation = node.reboot()

    def fail(_share: Share) -> None:
        raise DeviceLost("the driver is not loaded yet")

    node.backend.on_prepare = fail
    with pytest.raises(DeviceLost):
        await preparation.prepare(ref_of(TRAIN))
    node.backend.on_prepare = lambda _share: None
    await preparation.prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)
    assert read_usage(node.usage(key)).charged_bytes == 0


async def test_after_a_reboot_unprepare_needs_nothing_of_what_was_lost(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))
    await node.reboot().unprepare(ref_of(PAIR))
    assert node.state() == EMPTY
