"""Turns: one process at a time, all calls of a process at once, and nobody is kept out for good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dra_driver.kubeletplugin import turns as module
from dra_driver.kubeletplugin.turns import Turns


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Turns, Turns]]:
    """Two processes' turns at one folder: a lock belongs to whoever opened the file."""
    one, other = Turns(tmp_path), Turns(tmp_path)
    yield one, other
    one.close()
    other.close()


async def test_calls_of_one_process_are_inside_together(pair: tuple[Turns, Turns]) -> None:
    one, _ = pair
    async with one.turn(), asyncio.timeout(10), one.turn():
        pass


async def test_another_process_waits_until_all_calls_are_done(pair: tuple[Turns, Turns]) -> None:
    one, other = pair
    entered = asyncio.Event()

    async def enter() -> None:
        async with other.turn():
            entered.set()

    async with one.turn():
        async with one.turn():
            waiting = asyncio.create_task(enter())
            for _ in range(20):
                await asyncio.sleep(0.001)
        assert not entered.is_set()
    await asyncio.wait_for(waiting, timeout=10)


async def test_calls_without_end_let_another_process_in(
    pair: tuple[Turns, Turns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_TURN_SECONDS", 0.02)
    one, other = pair
    over = asyncio.Event()

    async def call_again_and_again() -> None:
        while not over.is_set():
            async with one.turn():
                await asyncio.sleep(0.004)

    busy = [asyncio.create_task(call_again_and_again()) for _ in range(3)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(20), other.turn():
        pass
    over.set()
    await asyncio.gather(*busy)


async def test_who_gains_the_lock_looks_first_at_what_others_did(tmp_path: Path) -> None:
    looked: list[str] = []
    turns = Turns(tmp_path, on_gained=lambda: looked.append("looked"))
    for _ in range(2):
        async with turns.turn(), turns.turn():
            pass
    turns.close()
    assert looked == ["looked", "looked"]


async def test_a_look_that_fails_gives_the_lock_back(pair: tuple[Turns, Turns]) -> None:
    one, other = pair

    def fail() -> None:
        raise OSError("the disk does not answer")

    one.on_gained = fail
    with pytest.raises(OSError, match="the disk"):
        async with one.turn():
            pass
    async with asyncio.timeout(10), other.turn():
        pass


async def test_a_waiting_call_that_is_cancelled_leaves_no_trace(pair: tuple[Turns, Turns]) -> None:
    one, other = pair

    async def enter() -> None:
        async with other.turn():
            pass

    async with one.turn():
        waiting = asyncio.create_task(enter())
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(10), other.turn():
        pass
