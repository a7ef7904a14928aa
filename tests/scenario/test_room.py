"""A claim for which there is no room yet: what it waits for, how long, and whom it keeps waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dra_driver.errors import OverCommitted
from dra_driver.kubeletplugin.checkpoint import PreparedShare
from drivers.errors import DeviceLost
from drivers.model import Share
from tests.support.backend import Gate, MemoryBackend, card
from tests.support.claims import JsonObject, allocated, share
from tests.support.node import MemoryNode, keys_of, ready, ref_of

LEAVING = allocated("leaving", share("gpu", "gpu-0", memory="8Gi", share_id="l1"))
NEXT = allocated("next", share("gpu", "gpu-0", memory="12Gi", share_id="n1"))
ELSEWHERE = allocated("elsewhere", share("gpu", "gpu-1", share_id="e1"))
IMPOSSIBLE = allocated(
    "impossible",
    share("a", "gpu-0", memory="9Gi", share_id="i1"),
    share("b", "gpu-0", memory="9Gi", share_id="i2"),
)

Waiting = asyncio.Task[tuple[PreparedShare, ...]]


@pytest.fixture
def node(tmp_path: Path) -> MemoryNode:
    one = MemoryNode(tmp_path, MemoryBackend(card(0), card(1)))
    one.given(LEAVING, NEXT, ELSEWHERE, IMPOSSIBLE)
    one.start(patience_seconds=60)
    return one


async def begin(node: MemoryNode, wire: JsonObject) -> Waiting:
    """Begin to prepare, and go on when there is nothing left but to wait."""
    task = asyncio.create_task(node.preparation.prepare(ref_of(wire)))
    path = f"/resourceclaims/{ref_of(wire).name}"
    await node.api.until(lambda: any(asked.endswith(path) for _, asked in node.api.requests))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def finished(task: Waiting) -> tuple[PreparedShare, ...]:
    """Wait for far less than the patience of the node."""
    return await asyncio.wait_for(task, timeout=30)


async def test_a_claim_is_prepared_when_the_one_before_it_has_left(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(LEAVING))
    waiting = await begin(node, NEXT)
    assert node.state() == ready(LEAVING)
    await node.preparation.unprepare(ref_of(LEAVING))
    assert [one.key for one in await finished(waiting)] == keys_of(NEXT)
    assert node.state() == ready(NEXT)


async def test_a_claim_is_prepared_when_the_one_before_it_was_rolled_back(node: MemoryNode) -> None:
    gate = Gate()

    def fail_later(one: Share) -> None:
        gate.hold(one)
        raise DeviceLost("gpu-0 does not answer")

    node.backend.on_prepare = fail_later
    failing = asyncio.create_task(node.preparation.prepare(ref_of(LEAVING)))
    assert await asyncio.to_thread(gate.reached.wait, 30)
    waiting = await begin(node, NEXT)
    node.backend.on_prepare = lambda _share: None
    gate.open()
    with pytest.raises(DeviceLost):
        await failing
    await finished(waiting)
    assert node.state() == ready(NEXT)


async def test_others_are_not_kept_waiting(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(LEAVING))
    waiting = await begin(node, NEXT)
    await asyncio.wait_for(node.preparation.prepare(ref_of(ELSEWHERE)), timeout=30)
    assert node.state() == ready(LEAVING, ELSEWHERE)
    await node.preparation.unprepare(ref_of(LEAVING))
    await finished(waiting)
    assert node.state() == ready(NEXT, ELSEWHERE)


async def test_a_departure_that_makes_too_little_room_is_not_enough(node: MemoryNode) -> None:
    small = allocated("small", share("gpu", "gpu-0", memory="1Gi", cores="0", share_id="s1"))
    node.given(small)
    for wire in (LEAVING, small):
        await node.preparation.prepare(ref_of(wire))
    waiting = await begin(node, NEXT)
    await node.preparation.unprepare(ref_of(small))
    assert not waiting.done()
    assert node.state() == ready(LEAVING)
    await node.preparation.unprepare(ref_of(LEAVING))
    await finished(waiting)


async def test_when_nobody_leaves_the_holders_are_named_in_the_end(node: MemoryNode) -> None:
    node.start(patience_seconds=0.1)
    await node.preparation.prepare(ref_of(LEAVING))
    with pytest.raises(OverCommitted, match="held by ResourceClaim team-a/leaving"):
        await node.preparation.prepare(ref_of(NEXT))
    assert node.state() == ready(LEAVING)


async def test_what_the_card_could_never_hold_is_refused_at_once(node: MemoryNode) -> None:
    with pytest.raises(OverCommitted, match="the claim itself names gpu-0 2 times"):
        await asyncio.wait_for(node.preparation.prepare(ref_of(IMPOSSIBLE)), timeout=30)


async def test_a_second_call_for_a_waiting_claim_gets_the_same_answer(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(LEAVING))
    waiting = [await begin(node, NEXT), await begin(node, NEXT)]
    await node.preparation.unprepare(ref_of(LEAVING))
    first, second = [await finished(task) for task in waiting]
    assert first == second
    assert node.backend.prepare_calls.count(keys_of(NEXT)[0]) == 1
