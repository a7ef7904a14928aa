"""Situations whose every call is cut in turn, and what the node must look like after the next start."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.scenario.situation import PAIR, TRAIN, WHOLE, spoil_usage
from tests.support.backend import MemoryBackend, card
from tests.support.claims import JsonObject, allocated, share
from tests.support.node import MemoryNode, NodeState, keys_of, ref_of

BESIDE = allocated("beside", share("gpu", "gpu-1", memory="1Gi", cores="1", share_id="n1"))
ANEW = allocated("pair", share("a", "gpu-1", share_id="n1"), share("b", "gpu-1", share_id="n2"))

# In memory where the machine has that: nothing here is about the disk's speed.
_FAST = Path("/dev/shm")


@dataclass(frozen=True)
class Situation:
    """What was before, which claim is called for, and how."""

    name: str
    arrange: Callable[[MemoryNode], Awaitable[None]]
    act: Callable[[MemoryNode], Awaitable[object]]
    subject: JsonObject
    boot_id: str = "boot-1"


@dataclass(frozen=True)
class Whole:
    """All that can be seen of a node: the state, and every file there is."""

    state: NodeState
    files: frozenset[str]


def seen(node: MemoryNode) -> Whole:
    """Look at the node, but for the checkpoint's own files, and for spares, which are nobody's yet."""
    roots = (node.state_folder, node.cdi_folder)
    files = (path.relative_to(root.parent) for root in roots for path in root.rglob("*"))
    return Whole(node.state(), frozenset(str(path) for path in files if "spare" not in path.parts))


@contextmanager
def fresh_node() -> Iterator[MemoryNode]:
    """A node with two cards in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="hami-cut-", dir=_FAST if _FAST.is_dir() else None))
    node = MemoryNode(folder, MemoryBackend(card(0), card(1)))
    node.cdi_folder.mkdir()
    node.given(TRAIN, PAIR, WHOLE, BESIDE)
    try:
        yield node
    finally:
        node.close()
        shutil.rmtree(folder)


async def _neighbour(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(BESIDE))
    spoil_usage(node, keys_of(BESIDE)[0])


async def _pair_is_ready(node: MemoryNode) -> None:
    await _neighbour(node)
    await node.preparation.prepare(ref_of(PAIR))


async def _pair_lost_its_spec(node: MemoryNode) -> None:
    await _pair_is_ready(node)
    for key in keys_of(PAIR):
        spoil_usage(node, key)
    node.spec_path(PAIR["metadata"]["uid"]).unlink()


async def _pair_is_allocated_anew(node: MemoryNode) -> None:
    await _pair_is_ready(node)
    node.spec_path(PAIR["metadata"]["uid"]).unlink()
    node.given(ANEW)


async def _nothing(_node: MemoryNode) -> None:
    pass


def _prepare(wire: JsonObject) -> Callable[[MemoryNode], Awaitable[object]]:
    return lambda node: node.preparation.prepare(ref_of(wire))


def _unprepare(wire: JsonObject) -> Callable[[MemoryNode], Awaitable[object]]:
    return lambda node: node.preparation.unprepare(ref_of(wire))


FIRST = Situation("the first prepare of a node", _nothing, _prepare(TRAIN), TRAIN)
SECOND = Situation("prepare of two shares beside another claim", _neighbour, _prepare(PAIR), PAIR)
UNPREPARE = Situation("unprepare of two shares beside another claim", _pair_is_ready, _unprepare(PAIR), PAIR)
REPAIR = Situation("repair of a claim in use", _pair_lost_its_spec, _prepare(PAIR), PAIR)
REPLACE = Situation("prepare of a claim allocated anew", _pair_is_allocated_anew, _prepare(PAIR), ANEW)
