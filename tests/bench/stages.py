"""Where the time of a Prepare and of an Unprepare goes: the plugin's own parts, timed one by one in this process.

What is missing to the figures over the socket is gRPC's, and what a process does beside: watching, reporting, logging.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from dra_driver.cdi.store import CdiStore
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.kubeletplugin.effects import Effects
from dra_driver.kubeletplugin.journal import SIZE
from dra_driver.kubeletplugin.metadata_files import MetadataFiles
from dra_driver.kubeletplugin.prepare import Preparation
from dra_driver.kubeletplugin.shares import ShareFolders
from dra_driver.kubeletplugin.turns import Turns
from tests.support import node
from tests.support.backend import MemoryBackend, card
from tests.support.claims import JsonObject, allocated, share
from tests.support.node import MemoryNode, ref_of

# Name, indented below what it is a part of, and the method that is timed.
_PARTS: tuple[tuple[str, object, str], ...] = (
    ("read the claim (from an API in memory)", Preparation, "_read"),
    ("take the turn", Turns, "_gain"),
    ("plan", node, "make_plan"),
    ("find that it fits", Preparation, "_misfit"),
    ("in the thread, prepare", Preparation, "_perform"),
    ("  record, a line of the journal", Checkpoint, "put"),
    ("  effects", Effects, "do"),
    ("    share folder with its two files", ShareFolders, "make"),
    ("    metadata and its spec", MetadataFiles, "make"),
    ("    write a spec", CdiStore, "write"),
    ("in the thread, unprepare", Preparation, "_undo"),
    ("  undo the effects", Effects, "undo"),
    ("  forget the record", Checkpoint, "remove"),
    ("  wait for the disk (fdatasync)", os, "fdatasync"),
)

Figures = dict[str, list[float]]


def stages(folder: Path, cdi: Path, *, cards: int, claims: int, rounds: int) -> Figures:
    """Milliseconds of each call of each part, in `rounds` Prepares and Unprepares beside `claims` prepared claims."""
    (folder / "cdi").symlink_to(cdi)
    measured = MemoryNode(
        folder, MemoryBackend(*(card(index, shares=claims) for index in range(cards))), journal_size=SIZE
    )
    try:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        return asyncio.run(_measured(measured, cards, claims, rounds))
    finally:
        structlog.reset_defaults()
        measured.close()


async def _measured(one: MemoryNode, cards: int, claims: int, rounds: int) -> Figures:
    figures: Figures = defaultdict(list)
    for number in range(claims):
        await _prepare(one, _claim(f"claim-{number}", number % cards))
    with _timed(figures):
        for number in range(rounds):
            wire = _claim(f"round-{number}", number % cards)
            one.given(wire)
            begun = time.perf_counter()
            await one.preparation.prepare(ref_of(wire))
            prepared = time.perf_counter()
            await one.preparation.unprepare(ref_of(wire))
            figures["prepare, without the socket"].append((prepared - begun) * 1000)
            figures["unprepare, without the socket"].append((time.perf_counter() - prepared) * 1000)
            one.api.delete_claim(wire)
            # As the plugin does it behind the calls.
            one.effects.make_spares()
    return {name: figures[name] for name in ("prepare, without the socket", "unprepare, without the socket", *figures)}


async def _prepare(one: MemoryNode, wire: JsonObject) -> None:
    one.given(wire)
    await one.preparation.prepare(ref_of(wire))


def _claim(name: str, number: int) -> JsonObject:
    return allocated(name, share("gpu", f"gpu-{number}", memory="64Mi", cores="1", share_id=name))


@contextmanager
def _timed(figures: Figures) -> Iterator[None]:
    with ExitStack() as stack:
        for name, place, attribute in _PARTS:
            wrap = _later if asyncio.iscoroutinefunction(real := getattr(place, attribute)) else _now
            stack.enter_context(mock.patch.object(place, attribute, wrap(real, figures[name])))
        yield


def _now(real: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return real(*arguments, **named)
        finally:
            taken.append((time.perf_counter() - begun) * 1000)

    return call


def _later(real: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
    async def call(*arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return await real(*arguments, **named)
        finally:
            taken.append((time.perf_counter() - begun) * 1000)

    return call
