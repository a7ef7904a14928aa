"""Few threads while the work is quick, more as soon as one is held up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dra_driver.kubeletplugin.lanes import Lanes


async def test_work_waits_for_a_lane_while_the_others_are_quick() -> None:
    lanes = Lanes(lanes=1, held_up_seconds=60)
    gate, reached, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        reached.set()
        assert gate.wait(30)
        order.append("first")

    held = asyncio.create_task(lanes.run(first))
    await asyncio.to_thread(reached.wait, 30)
    second = asyncio.create_task(lanes.run(order.append, "second"))
    gate.set()
    async with asyncio.timeout(30):
        await asyncio.gather(held, second)
    assert order == ["first", "second"]


async def test_nobody_waits_long_for_one_that_is_held_up() -> None:
    lanes = Lanes(lanes=1, held_up_seconds=0.01)
    gate = threading.Event()
    held = asyncio.create_task(lanes.run(gate.wait, 30))
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(lanes.run(str, number) for number in range(3))) == ["0", "1", "2"]
    assert not held.done()
    gate.set()
    assert await held


async def test_an_error_gives_the_lane_back() -> None:
    lanes = Lanes(lanes=1, held_up_seconds=60)
    async with asyncio.timeout(30):
        for _ in range(3):
            with pytest.raises(ValueError, match="invalid literal"):
                await lanes.run(int, "x")
