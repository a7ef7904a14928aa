"""The plugin dies, or its disk is full, at every single call that Prepare and Unprepare make.

Whatever the call: after the next start the node is as it was before, or as it would have been after. Every file is
looked at, so that nothing is left behind either; and the claim beside is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest

from dra_driver.kubeletplugin.prepare import Preparation
from tests.scenario.cutting import (
    BESIDE,
    FIRST,
    REPAIR,
    REPLACE,
    SECOND,
    UNPREPARE,
    Situation,
    Whole,
    fresh_node,
    seen,
)
from tests.scenario.situation import PAIR, is_spoilt
from tests.support.cuts import Cut, Way
from tests.support.node import Crash, MemoryNode, keys_of, ref_of

_CLEAR = [FIRST, SECOND, UNPREPARE]
_IN_USE = [REPAIR, REPLACE]


async def points_of(situation: Situation) -> list[str]:
    """Count the calls of an undisturbed run."""
    cut = Cut()
    with fresh_node() as node:
        await situation.arrange(node)
        with cut.on(node):
            await situation.act(node)
    return cut.points


async def ends_of(situation: Situation) -> tuple[Whole, Whole]:
    """The two legal states: before, and after."""
    with fresh_node() as node:
        await situation.arrange(node)
        before = seen(node)
        await situation.act(node)
        return before, seen(node)


async def cut_at(node: MemoryNode, situation: Situation, point: int, way: Way) -> None:
    await situation.arrange(node)
    with Cut(point, way).on(node), pytest.raises(OSError if way is Way.FULL else Crash):
        await situation.act(node)


async def last_word(node: MemoryNode, situation: Situation) -> None:
    """Whatever was cut: the kubelet calls again and gets what it asks for, and in the end nothing is left."""
    ref = ref_of(situation.subject)
    first = await node.preparation.prepare(ref)
    assert await node.preparation.prepare(ref) == first
    assert {one.key for one in first} == set(keys_of(situation.subject))
    assert node.state().records[ref.name] == "COMPLETED"
    await node.preparation.unprepare(ref)
    if "beside" in node.state().records:
        assert is_spoilt(node, keys_of(BESIDE)[0])
        await node.preparation.unprepare(ref_of(BESIDE))
    left = seen(node)
    assert left.files == {"state/shares", "state/metadata"}
    assert (left.state.records, left.state.backend) == ({}, frozenset())
    assert not [path for path in node.plugin_folder.iterdir() if path.name.endswith(".tmp")]


def in_use(node: MemoryNode) -> set[str]:
    """The shares whose accounting is there."""
    return {path.parent.name for path in node.state_folder.glob("shares/*/usage")}


@pytest.mark.parametrize("situation", _CLEAR, ids=lambda one: one.name)
@pytest.mark.parametrize("way", [Way.CRASH, Way.TORN])
async def test_a_crash_at_any_call_leaves_one_of_the_two_states_after_the_next_start(
    situation: Situation, way: Way
) -> None:
    legal = await ends_of(situation)
    points = await points_of(situation)
    assert len(points) > 15
    for point, name in enumerate(points, start=1):
        if way is Way.TORN and "write" not in name:
            continue
        with fresh_node() as node:
            await cut_at(node, situation, point, way)
            await node.restart()
            assert seen(node) in legal, f"cut at call {point}, {name}"
            await last_word(node, situation)


@pytest.mark.parametrize("situation", _IN_USE, ids=lambda one: one.name)
async def test_a_crash_at_any_call_of_a_repair_takes_nothing_from_the_containers_of_the_claim(
    situation: Situation,
) -> None:
    for point in range(1, len(await points_of(situation)) + 1):
        with fresh_node() as node:
            await cut_at(node, situation, point, Way.CRASH)
            await node.restart()
            if situation is REPAIR:
                assert in_use(node) == {*keys_of(PAIR), *keys_of(BESIDE)}
                assert all(is_spoilt(node, key) for key in keys_of(PAIR))
            await last_word(node, situation)


@pytest.mark.parametrize("situation", [*_CLEAR, *_IN_USE], ids=lambda one: one.name)
async def test_a_disk_that_is_full_at_any_call_fails_that_call_alone(situation: Situation) -> None:
    for point in range(1, len(await points_of(situation)) + 1):
        with fresh_node() as node:
            await situation.arrange(node)
            # What fails may be a clean-up that nobody depends on; if anything is told, it is this.
            with Cut(point, Way.FULL).on(node), contextlib.suppress(OSError):
                await situation.act(node)
            await last_word(node, situation)


async def test_a_crash_at_any_call_of_the_settling_is_settled_by_the_next_start() -> None:
    legal = await ends_of(SECOND)
    middle = (await points_of(SECOND)).index("prepare gpu-0") + 12

    async def settle(node: MemoryNode, cut: Cut) -> Preparation:
        preparation = node.start()
        with cut.on(node):
            await preparation.settle()
        return preparation

    counted = Cut()
    with fresh_node() as node:
        await cut_at(node, SECOND, middle, Way.CRASH)
        await settle(node, counted)
    assert len(counted.points) > 10
    for point in range(1, len(counted.points) + 1):
        with fresh_node() as node:
            await cut_at(node, SECOND, middle, Way.CRASH)
            with pytest.raises(Crash):
                await settle(node, Cut(point))
            await node.restart()
            assert seen(node) in legal
            await last_word(node, SECOND)


def test_a_process_that_is_killed_at_any_call_leaves_one_of_the_two_states() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenario.killing"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    killed = json.loads(done.stdout.splitlines()[-1])
    assert set(killed) == {one.name for one in _CLEAR}
    assert all(times > 15 for times in killed.values())
