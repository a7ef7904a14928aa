"""Calls for several claims: each has an outcome of its own, and what was begun is finished."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2
from dra_driver.kubeletplugin.service import Batches
from drivers.model import Share
from tests.support.backend import Gate, MemoryBackend, card
from tests.support.claims import JsonObject, allocated, share
from tests.support.node import EMPTY, MemoryNode, ready, ref_of

GOOD = allocated("good", share("gpu", "gpu-0", share_id="g1"))
FINE = allocated("fine", share("gpu", "gpu-1", share_id="f1"))
BAD = allocated("bad", share("gpu", "gpu-9", share_id="b1"))


@pytest.fixture
def node(tmp_path: Path) -> MemoryNode:
    one = MemoryNode(tmp_path, MemoryBackend(card(0), card(1)))
    one.given(GOOD, FINE, BAD)
    return one


def wire(claim: JsonObject) -> api_pb2.Claim:
    ref = ref_of(claim)
    return api_pb2.Claim(namespace=ref.namespace, name=ref.name, uid=ref.uid)


def uid(claim: JsonObject) -> str:
    return ref_of(claim).uid


async def test_a_bad_claim_in_a_batch_does_not_disturb_the_others(node: MemoryNode) -> None:
    outcomes = await Batches(node.preparation).prepare([wire(GOOD), wire(BAD), wire(FINE)])
    assert list(outcomes) == [uid(GOOD), uid(BAD), uid(FINE)]
    assert "gpu-9 is not on this node" in str(outcomes[uid(BAD)])
    assert node.state() == ready(GOOD, FINE)


async def test_an_unexpected_error_is_told_for_its_claim_alone(node: MemoryNode) -> None:
    def fail(one: Share) -> None:
        if one.device.name == "gpu-0":
            raise ZeroDivisionError("a mistake of ours")

    node.backend.on_prepare = fail
    outcomes = await Batches(node.preparation).prepare([wire(GOOD), wire(FINE)])
    assert outcomes[uid(GOOD)] == "ResourceClaim team-a/good: internal error: ZeroDivisionError: a mistake of ours"
    assert node.state() == ready(FINE)


async def test_unprepare_has_an_empty_entry_for_every_claim(node: MemoryNode) -> None:
    batches = Batches(node.preparation)
    await batches.prepare([wire(GOOD)])
    assert await batches.unprepare([wire(GOOD), wire(FINE)]) == {uid(GOOD): "", uid(FINE): ""}
    assert node.state() == EMPTY


async def test_a_call_that_is_cancelled_goes_on_to_its_end(node: MemoryNode) -> None:
    gate = Gate()
    node.backend.on_prepare = gate.hold
    batches = Batches(node.preparation)
    call = asyncio.create_task(batches.prepare([wire(GOOD)]))
    await asyncio.to_thread(gate.reached.wait, 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert node.state().records == {"good": "STARTED"}
    gate.open()
    await batches.drain()
    assert node.state() == ready(GOOD)


async def test_a_call_after_a_cancelled_one_waits_for_it_and_gets_its_answer(node: MemoryNode) -> None:
    gate = Gate()
    node.backend.on_prepare = gate.hold
    batches = Batches(node.preparation)
    call = asyncio.create_task(batches.prepare([wire(GOOD)]))
    await asyncio.to_thread(gate.reached.wait, 30)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    again = asyncio.create_task(batches.prepare([wire(GOOD)]))
    gate.open()
    outcome = (await again)[uid(GOOD)]
    assert not isinstance(outcome, str)
    assert len(node.backend.prepare_calls) == 1
    assert node.state() == ready(GOOD)


async def test_claims_of_a_batch_are_prepared_side_by_side(node: MemoryNode) -> None:
    gates = {"gpu-0": Gate(), "gpu-1": Gate()}
    node.backend.on_prepare = lambda one: gates[one.device.name].hold(one)
    call = asyncio.create_task(Batches(node.preparation).prepare([wire(GOOD), wire(FINE)]))
    for gate in gates.values():
        assert await asyncio.to_thread(gate.reached.wait, 30)
    for gate in gates.values():
        gate.open()
    await call
    assert node.state() == ready(GOOD, FINE)


async def test_draining_with_nothing_in_flight_is_done_at_once(node: MemoryNode) -> None:
    await asyncio.wait_for(Batches(node.preparation).drain(), timeout=5)
