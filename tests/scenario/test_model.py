"""Thousands of random lives of a node beside a model of ten lines: whatever happens in whatever order, they agree.

The model knows which claims are prepared and what they hold, and nothing of files, records or threads.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dra_driver.errors import HamiDraError
from dra_driver.kube.claims import ClaimRef, parse_claim
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from tests.scenario.cutting import fresh_node
from tests.support.backend import GIB, card
from tests.support.claims import JsonObject, allocated, share, whole_device
from tests.support.cuts import Cut
from tests.support.node import Crash, MemoryNode, keys_of, ref_of
from tests.support.power import Disk, Loss

LIVES = int(os.environ.get("HAMI_DRA_TEST_LIVES", "2000"))
CARDS = (card(0, shares=3), card(1, shares=3))
NAMES = ("a", "b", "c", "d")
VARIANTS = (
    [share("gpu", "gpu-0", memory="4Gi", cores="30")],
    [share("gpu", "gpu-0", memory="8Gi", cores="60")],
    [share("gpu", "gpu-1", memory="12Gi", cores="0")],
    [share("x", "gpu-0", memory="4Gi", cores="20"), share("y", "gpu-1", memory="8Gi", cores="50", share_id="aaaa0002")],
    [share("x", "gpu-1", memory="1Gi", cores="1"), share("y", "gpu-1", memory="1Gi", cores="1", share_id="aaaa0002")],
    [whole_device("gpu", "gpu-1")],
    [share("gpu", "gpu-9")],
)
WRONG = len(VARIANTS) - 1

_name = st.sampled_from(NAMES)
_age = st.integers(0, 1)
_point = st.integers(1, 90)
EVENTS = st.one_of(
    st.tuples(st.just("allocate"), _name, st.integers(0, WRONG)),
    st.tuples(st.just("delete"), _name),
    st.tuples(st.just("prepare"), _name, _age),
    st.tuples(st.just("prepare"), _name, st.just(0)),
    st.tuples(st.just("unprepare"), _name, _age),
    st.tuples(st.just("die_in_prepare"), _name, _point),
    st.tuples(st.just("die_in_unprepare"), _name, _point),
    st.just(("restart",)),
    st.just(("lose_checkpoint",)),
    st.just(("reboot",)),
    st.tuples(st.just("power_cut"), st.sampled_from(list(Loss)), st.booleans()),
)


@dataclass
class Held:
    """A prepared claim. `void` since a reboot took its spec, `torn` since a power cut took other files of it."""

    wire: JsonObject
    void: bool = False
    torn: bool = False


@dataclass
class Model:
    """What must be true."""

    exists: dict[str, JsonObject] = field(default_factory=dict)
    ever: dict[str, list[JsonObject]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)

    def prepare(self, wire: JsonObject) -> bool:
        """Tell whether it must succeed, and take it in."""
        ref = ref_of(wire)
        before = self.held.get(ref.uid)
        if before is not None and not before.void:
            return True
        now = self.exists.get(ref.name)
        if now is None or ref_of(now).uid != ref.uid or not self._fits(now):
            return False
        self.held[ref.uid] = Held(now)
        return True

    def _fits(self, wire: JsonObject) -> bool:
        others = [held.wire for uid, held in self.held.items() if uid != ref_of(wire).uid]
        parts = [(one is wire, result) for one in (*others, wire) for result in parse_claim(one).results or ()]
        for device in {result.device for mine, result in parts if mine}:
            here = [result.consumed for _, result in parts if result.device == device]
            if device not in ("gpu-0", "gpu-1") or (None in here and len(here) > 1) or len(here) > 3:
                return False
            shares = [consumed for consumed in here if consumed is not None]
            if sum(one["memory"] for one in shares) > 16 * GIB or sum(one["cores"] for one in shares) > 100:
                return False
        return True


class Life:
    """One node, its model, and the events that befall both."""

    def __init__(self, node: MemoryNode, disk: Disk, serial: Iterator[int]) -> None:
        self._node = node
        self._disk = disk
        self._model = Model()
        self._serial = serial
        self._boots = 1

    async def meet(self, event: tuple[Any, ...]) -> None:
        await getattr(self, f"_{event[0]}")(*event[1:])
        self._agree()

    async def _allocate(self, name: str, variant: int) -> None:
        now = self._model.exists.get(name)
        # A claim in use is not allocated anew: it is another claim of that name.
        anew = now is None or ref_of(now).uid in self._model.held
        uid = f"{name}-{next(self._serial)}" if anew else ref_of(now or {}).uid
        wire = allocated(name, *VARIANTS[variant], uid=uid)
        self._model.exists[name] = wire
        self._model.ever.setdefault(name, []).insert(0, wire)
        self._node.given(wire)

    async def _delete(self, name: str) -> None:
        if (wire := self._model.exists.pop(name, None)) is not None:
            self._node.api.delete_claim(wire)

    async def _prepare(self, name: str, age: int) -> None:
        if (wire := self._known(name, age)) is not None:
            expected = self._model.prepare(wire)
            assert await self._prepared(ref_of(wire)) is expected, f"prepare {wire['metadata']}"

    async def _unprepare(self, name: str, age: int) -> None:
        if (wire := self._known(name, age)) is not None:
            self._model.held.pop(ref_of(wire).uid, None)
            await self._node.preparation.unprepare(ref_of(wire))

    async def _die_in_prepare(self, name: str, point: int) -> None:
        if (wire := self._known(name, 0)) is None:
            return
        repairs = ref_of(wire).uid in self._model.held
        if await self._dies(point, self._prepared(ref_of(wire))) and not repairs:
            recorded = self._recorded()
            assert set(recorded) - {ref_of(wire).uid} == set(self._model.held)
            assert set(recorded.values()) <= {"COMPLETED"}
        await self._prepare(name, 0)

    async def _die_in_unprepare(self, name: str, point: int) -> None:
        if (wire := self._known(name, 0)) is None:
            return
        if await self._dies(point, self._node.preparation.unprepare(ref_of(wire))):
            assert set(self._recorded()) | {ref_of(wire).uid} == set(self._model.held) | {ref_of(wire).uid}
        await self._unprepare(name, 0)

    async def _dies(self, point: int, work: Any) -> bool:
        try:
            with Cut(point).on(self._node):
                await work
        except Crash:
            await self._restart()
            return True
        return False

    async def _restart(self) -> None:
        await self._node.restart(boot_id=f"boot-{self._boots}")

    async def _lose_checkpoint(self) -> None:
        """A damaged file alone: what every witness together still knows is everything."""
        path = self._node.plugin_folder / "checkpoint.json"
        # After a reboot the specs, one of the witnesses, are gone: two losses at once are another test.
        if path.exists() and not any(held.void for held in self._model.held.values()):
            path.write_bytes(b"damaged")
            await self._restart()

    async def _reboot(self) -> None:
        for spec in self._node.cdi_folder.iterdir():
            spec.unlink()
        self._node.backend.prepared.clear()
        self._boots += 1
        for held in self._model.held.values():
            held.void = True
        await self._restart()

    async def _power_cut(self, loss: Loss, synced: bool) -> None:
        """What was told to be taken back stays away; what was prepared a moment ago may be forgotten."""
        if synced:
            self._node.checkpoint.keep_up()
        self._disk.lose(loss)
        self._node.backend.prepared.clear()
        self._boots += 1
        await self._restart()
        recorded, held = self._recorded(), self._model.held
        assert set(recorded) <= set(held)
        assert not synced or set(recorded) == set(held)
        self._model.held = {uid: Held(held[uid].wire, void=True, torn=True) for uid in recorded}

    def _known(self, name: str, age: int) -> JsonObject | None:
        ever = self._model.ever.get(name, [])
        return ever[age] if age < len(ever) else None

    async def _prepared(self, ref: ClaimRef) -> bool:
        try:
            await self._node.preparation.prepare(ref)
        except HamiDraError:
            return False
        return True

    def _recorded(self) -> dict[str, str]:
        checkpoint = Checkpoint(self._node.plugin_folder)
        checkpoint.load()
        return {claim.uid: claim.state.value for claim in checkpoint.claims()}

    def _agree(self) -> None:
        """Compare the node with the model, to the last file."""
        held = self._model.held
        ready = {uid: one for uid, one in held.items() if not one.void}
        folder = self._node.state_folder / "shares"
        assert self._recorded() == dict.fromkeys(held, "COMPLETED")
        there = {path.name for path in folder.iterdir()}
        assert there <= {key for one in held.values() for key in keys_of(one.wire)}
        assert there >= {key for one in held.values() if not one.torn for key in keys_of(one.wire)}
        assert set(self._node.backend.prepared) == {key for one in ready.values() for key in keys_of(one.wire)}
        specs = {path.name for path in self._node.cdi_folder.iterdir() if "-claim-" in path.name}
        assert specs == {f"vgpu.hami.io-claim-{uid}.json" for uid in ready}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of lives say much."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@settings(
    max_examples=LIVES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(events=st.lists(EVENTS, min_size=1, max_size=14))
def test_a_node_does_what_the_model_says(runner: asyncio.Runner, events: list[tuple[Any, ...]]) -> None:
    async def live() -> None:
        with fresh_node() as node:
            node.backend.devices = CARDS
            node.patience_seconds = 0.0
            await node.restart()
            disk = Disk(node.plugin_folder, node.state_folder, node.cdi_folder)
            life = Life(node, disk, itertools.count())
            with disk.watched():
                for event in events:
                    await life.meet(event)

    runner.run(live())
