"""The power fails at every single call of Prepare and Unprepare, and of what was not synced anything may be lost.

After a boot no container lives, and the kubelet prepares anew what its pods still want, or takes back what they no
longer do. Both must work, and in the end nothing is left; above all of a claim that the kubelet will never speak of
again, because it was told that the claim was taken back.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from drivers.shim_contract import read_usage
from tests.scenario.cutting import BESIDE, FIRST, SECOND, UNPREPARE, Situation, fresh_node, seen
from tests.scenario.situation import PAIR
from tests.support.backend import MemoryBackend
from tests.support.claims import JsonObject
from tests.support.cuts import Cut
from tests.support.node import EMPTY, Crash, MemoryNode, NodeState, keys_of, ready, ref_of
from tests.support.power import Disk, Loss

_SITUATIONS = [FIRST, SECOND, UNPREPARE]


class Lasting(MemoryBackend):
    """A vendor whose shares are still there after a reboot."""

    outlives_reboot = True


@contextlib.asynccontextmanager
async def power_failed(situation: Situation, point: int, loss: Loss) -> AsyncIterator[tuple[MemoryNode, bool]]:
    """A node after the boot; tells too whether the call had been answered. The plugin has not been started yet."""
    with fresh_node() as node:
        await node.restart()
        disk = Disk(node.plugin_folder, node.state_folder, node.cdi_folder)
        with disk.watched():
            await situation.arrange(node)
            if situation is UNPREPARE:
                # Known for long; whereas the neighbour of a prepare was prepared a moment ago.
                node.checkpoint.keep_up()
            cut, answered = Cut(point), True
            with cut.on(node):
                try:
                    await situation.act(node)
                except Crash:
                    answered = False
        disk.lose(loss)
        if not isinstance(node.backend, Lasting):
            node.backend.prepared.clear()
        yield node, answered


async def length_of(situation: Situation) -> int:
    """Count the calls of an undisturbed run."""
    cut = Cut()
    with fresh_node() as node:
        await node.restart()
        await situation.arrange(node)
        with cut.on(node):
            await situation.act(node)
    return len(cut.points)


def claims_of(situation: Situation) -> list[JsonObject]:
    """What the kubelet may ask for after the boot."""
    return [situation.subject] if situation is FIRST else [BESIDE, situation.subject]


def left(node: MemoryNode) -> tuple[NodeState, frozenset[str]]:
    whole = seen(node)
    return whole.state, whole.files - {"state/shares", "state/metadata"}


@pytest.mark.parametrize("situation", _SITUATIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("loss", list(Loss))
async def test_after_a_power_cut_at_any_call_every_claim_can_be_prepared_anew(situation: Situation, loss: Loss) -> None:
    for point in range(1, await length_of(situation) + 2):
        async with power_failed(situation, point, loss) as (node, _):
            await node.restart(boot_id="boot-2")
            for wire in claims_of(situation):
                shares = await node.preparation.prepare(ref_of(wire))
                assert {one.key for one in shares} == set(keys_of(wire))
            assert node.state() == ready(*claims_of(situation)), f"at call {point}"
            for key in (key for wire in claims_of(situation) for key in keys_of(wire)):
                assert read_usage(node.usage(key)).processes == ()
            for wire in claims_of(situation):
                await node.preparation.unprepare(ref_of(wire))
            assert left(node) == (EMPTY, frozenset()), f"at call {point}"


@pytest.mark.parametrize("situation", _SITUATIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("loss", list(Loss))
async def test_after_a_power_cut_at_any_call_nothing_is_left_of_what_is_taken_back(
    situation: Situation, loss: Loss
) -> None:
    for point in range(1, await length_of(situation) + 2):
        async with power_failed(situation, point, loss) as (node, answered):
            await node.restart(boot_id="boot-2")
            for wire in claims_of(situation):
                # What was told to be taken back, nobody asks for again.
                if not (answered and situation is UNPREPARE and wire is PAIR):
                    await node.preparation.unprepare(ref_of(wire))
            assert left(node) == (EMPTY, frozenset()), f"at call {point}"


@pytest.mark.parametrize("loss", [Loss.ALL, Loss.RECORDS, Loss.EFFECTS])
async def test_what_outlives_a_boot_is_taken_back_after_a_power_cut_at_any_call(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.scenario.cutting.MemoryBackend", Lasting)
    for situation in _SITUATIONS:
        for point in range(1, await length_of(situation) + 2):
            async with power_failed(situation, point, loss) as (node, answered):
                await node.restart(boot_id="boot-2")
                for wire in claims_of(situation):
                    if not (answered and situation is UNPREPARE and wire is PAIR):
                        await node.preparation.unprepare(ref_of(wire))
                assert left(node) == (EMPTY, frozenset()), f"{situation.name}: at call {point}"
