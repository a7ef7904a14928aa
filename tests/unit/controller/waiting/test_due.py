"""The queue with times."""

from __future__ import annotations

import asyncio

from dra_driver.controller.waiting.due import Due


async def test_what_is_due_first_comes_first() -> None:
    now = 10.0
    due = Due(lambda: now)
    due.put("late", 9.0)
    due.put("early", 8.0)
    assert [await due.next(), await due.next()] == ["early", "late"]


async def test_the_earliest_time_wins_and_one_entry_is_left() -> None:
    now = 10.0
    due = Due(lambda: now)
    for when in (9.0, 5.0, 7.0):
        due.put("one", when)
    assert len(due) == 1
    assert await due.next() == "one"
    assert len(due) == 0


async def test_what_is_dropped_does_not_come() -> None:
    now = 10.0
    due = Due(lambda: now)
    due.put("one", 1.0)
    due.put("two", 2.0)
    due.drop("one")
    assert await due.next() == "two"


async def test_who_waits_is_woken_by_what_is_due_earlier() -> None:
    now = 10.0
    due = Due(lambda: now)
    due.put("late", 1000.0)
    taken = asyncio.create_task(due.next())
    await asyncio.sleep(0)
    due.put("now", 10.0)
    async with asyncio.timeout(30):
        assert await taken == "now"


async def test_what_was_dropped_does_not_pile_up() -> None:
    due = Due(lambda: 10.0)
    due.put("kept", 1.0)
    for number in range(1000):
        due.put(str(number), 2.0)
        due.drop(str(number))
    assert len(due._heap) < 100
    assert await due.next() == "kept"
