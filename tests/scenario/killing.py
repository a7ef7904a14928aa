"""Kills a real process with SIGKILL at every call of Prepare and Unprepare, and looks at what it left.

A program of its own, because it forks, which a test process with threads must not. Its last line says how many
processes were killed in each situation; it fails with a trace where a state is none of the two legal ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import traceback
from collections.abc import Coroutine
from dataclasses import replace

import structlog

from tests.scenario.cutting import FIRST, SECOND, UNPREPARE, Situation, Whole, fresh_node, seen
from tests.support.cuts import Cut, Way
from tests.support.node import MemoryNode


def main() -> None:
    """Kill, look, and print."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    print(json.dumps({situation.name: _kill_everywhere(situation) for situation in (FIRST, SECOND, UNPREPARE)}))


def _kill_everywhere(situation: Situation) -> int:
    with fresh_node() as node:
        before, after = asyncio.run(_ends(node, situation))
    for point in range(1, 1000):
        with fresh_node() as node:
            asyncio.run(_arrange(node, situation))
            if not _killed(_act(node, situation, point)):
                return point - 1
            # What the vendor has in memory dies with the process, and is none of this.
            left = asyncio.run(_restarted(node))
            assert left in (_on_disk(before), _on_disk(after)), f"{situation.name}: killed at call {point}: {left}"
    raise AssertionError("it never comes to its end")


def _killed(work: Coroutine[None, None, None]) -> bool:
    """Run in a process of its own; tells whether that was killed, as against having come to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(work)
        except BaseException:  # noqa: BLE001 - nothing of this process may go on into the caller's frames
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    work.close()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, "the process failed"
    return False


async def _act(node: MemoryNode, situation: Situation, point: int) -> None:
    with Cut(point, Way.KILL).on(node):
        await situation.act(node)


async def _arrange(node: MemoryNode, situation: Situation) -> None:
    node.start()
    await situation.arrange(node)


async def _ends(node: MemoryNode, situation: Situation) -> tuple[Whole, Whole]:
    await _arrange(node, situation)
    before = seen(node)
    await situation.act(node)
    return before, seen(node)


async def _restarted(node: MemoryNode) -> Whole:
    await node.restart()
    return _on_disk(seen(node))


def _on_disk(whole: Whole) -> Whole:
    return replace(whole, state=replace(whole.state, backend=frozenset()))


if __name__ == "__main__":
    main()
