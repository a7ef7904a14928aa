"""A checkpoint that is damaged or gone: rebuilt from what is left, and nothing of the claims is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dra_driver.errors import OverCommitted
from dra_driver.kube.errors import KubeError
from drivers import shim_abi as abi
from tests.scenario.cutting import BESIDE, fresh_node
from tests.scenario.situation import PAIR, TRAIN, is_spoilt, spoil_usage
from tests.support.api import CLAIMS
from tests.support.claims import allocated, share
from tests.support.cuts import Cut
from tests.support.node import EMPTY, Crash, MemoryNode, keys_of, ready, ref_of

Damage = Callable[[Path], None]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def overwritten(path: Path) -> None:
    path.write_bytes(b"\0" * 4096)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def deleted(path: Path) -> None:
    path.unlink()


DAMAGES = [cut_short, overwritten, emptied, deleted]


@pytest.fixture
def node() -> Iterator[MemoryNode]:
    with fresh_node() as one:
        yield one


def checkpoint(node: MemoryNode) -> Path:
    return node.plugin_folder / "checkpoint.json"


def lose(node: MemoryNode, damage: Damage = overwritten, *, previous: bool = True) -> None:
    """Damage the checkpoint; the version before it goes too, and all journals, unless told otherwise."""
    damage(checkpoint(node))
    if previous:
        for path in (*node.plugin_folder.glob("*.previous.json"), *node.plugin_folder.glob("*.journal")):
            path.unlink()


def silence_api(node: MemoryNode) -> None:
    node.api.fail_next("GET", CLAIMS, KubeError("GET", 0, "no answer"))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("api_answers", [True, False])
async def test_what_was_ready_is_known_again(node: MemoryNode, damage: Damage, api_answers: bool) -> None:
    answers = [await node.preparation.prepare(ref_of(wire)) for wire in (BESIDE, PAIR)]
    for key in (*keys_of(BESIDE), *keys_of(PAIR)):
        spoil_usage(node, key)
    lose(node, damage)
    if not api_answers:
        silence_api(node)
    await node.restart()
    assert node.state() == ready(BESIDE, PAIR)
    assert [await node.preparation.prepare(ref_of(wire)) for wire in (BESIDE, PAIR)] == answers
    assert all(is_spoilt(node, key) for key in (*keys_of(BESIDE), *keys_of(PAIR)))
    for wire in (BESIDE, PAIR):
        await node.preparation.unprepare(ref_of(wire))
    assert node.state() == EMPTY


async def test_the_damaged_file_is_kept_for_people_to_look_at(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    lose(node)
    await node.restart()
    (aside,) = node.plugin_folder.glob("checkpoint.damaged-*.json")
    assert aside.read_bytes() == b"\0" * 4096


async def test_what_is_rebuilt_still_counts_as_promised(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    lose(node)
    await node.restart()
    node.given(big := allocated("big", share("gpu", "gpu-0", memory="13Gi", cores="0", share_id="b1")))
    with pytest.raises(OverCommitted, match="held by ResourceClaim team-a/train"):
        await node.preparation.prepare(ref_of(big))


async def test_after_a_reboot_the_version_before_the_last_change_and_the_api_know(node: MemoryNode) -> None:
    for wire in (BESIDE, PAIR):
        await node.preparation.prepare(ref_of(wire))
    lose(node, previous=False)
    for spec in node.cdi_folder.iterdir():
        spec.unlink()
    node.backend.prepared.clear()
    await node.restart(boot_id="boot-2")
    assert set(node.state().records) == {"beside", "pair"}
    for wire in (BESIDE, PAIR):
        await node.preparation.prepare(ref_of(wire))
    assert node.state() == ready(BESIDE, PAIR)


async def test_what_the_last_change_removed_does_not_come_back(node: MemoryNode) -> None:
    for wire in (BESIDE, PAIR):
        await node.preparation.prepare(ref_of(wire))
    await node.preparation.unprepare(ref_of(PAIR))
    node.api.delete_claim(PAIR)
    lose(node, previous=False)
    await node.restart()
    assert node.state() == ready(BESIDE)


async def test_a_preparation_that_had_only_begun_is_found_by_the_claim_in_the_api(node: MemoryNode) -> None:
    points = Cut()
    with points.on(node):
        await node.preparation.prepare(ref_of(PAIR))
    await node.preparation.unprepare(ref_of(PAIR))
    with Cut(points.points.index("prepare gpu-0") + 20).on(node), pytest.raises(Crash):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state().specs == {}
    lose(node)
    await node.restart()
    assert node.state().records == {"pair": "STARTED"}
    await node.preparation.unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_share_that_nobody_knows_is_taken_back(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    node.api.delete_claim(TRAIN)
    for spec in node.cdi_folder.iterdir():
        spec.unlink()
    lose(node)
    await node.restart()
    assert node.state() == EMPTY


async def test_a_share_that_nobody_knows_stays_while_the_api_does_not_answer(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    for spec in node.cdi_folder.iterdir():
        spec.unlink()
    lose(node)
    silence_api(node)
    await node.restart()
    assert set(node.state().shares) == set(keys_of(TRAIN))
    await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)


async def test_a_share_that_nobody_knows_stays_while_its_accounting_cannot_be_read(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    node.usage(key).write_bytes(b"x" * abi.USAGE_SIZE)
    node.api.delete_claim(TRAIN)
    for spec in node.cdi_folder.iterdir():
        spec.unlink()
    lose(node)
    await node.restart()
    assert set(node.state().shares) == {key}


async def test_a_spec_without_a_record_is_still_a_claim_that_can_be_taken_back(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    path = node.spec_path(ref_of(TRAIN).uid)
    path.write_text(path.read_text().replace("vgpu.hami.io/record", "vgpu.hami.io/other"))
    node.api.delete_claim(TRAIN)
    lose(node)
    await node.restart()
    assert node.state().records == {"unknown": "STARTED"}
    assert node.state().shares == ready(TRAIN).shares
    await node.preparation.unprepare(ref_of(TRAIN))
    assert (node.state().records, node.state().specs, node.state().shares) == ({}, {}, {})


async def test_a_node_without_a_checkpoint_and_without_claims_is_simply_new(node: MemoryNode) -> None:
    requests = len(node.api.requests)
    await node.restart()
    assert node.state() == EMPTY
    assert len(node.api.requests) == requests


async def test_a_crash_at_any_call_of_the_rebuilding_is_made_good_by_the_next_start() -> None:
    point = 0
    finished = False
    while not finished:
        point += 1
        with fresh_node() as node:
            for wire in (BESIDE, PAIR):
                await node.preparation.prepare(ref_of(wire))
            lose(node)
            cut = Cut(point)
            try:
                with cut.on(node):
                    await node.restart()
            except Crash:
                await node.restart()
            else:
                finished = True
            assert node.state() == ready(BESIDE, PAIR), f"cut at call {point}"
    assert point > 8


async def test_a_file_that_vanishes_under_a_living_plugin_is_written_again(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(BESIDE))
    checkpoint(node).unlink()
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(BESIDE, PAIR)


async def test_a_file_that_is_damaged_under_a_living_plugin_is_set_aside_and_written_again(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(BESIDE))
    overwritten(checkpoint(node))
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(BESIDE, PAIR)
    assert len(list(node.plugin_folder.glob("checkpoint.damaged-*.json"))) == 1


async def test_a_damaged_file_is_told_again_by_the_one_before_it_and_the_journals(node: MemoryNode) -> None:
    await node.restart()
    for wire in (BESIDE, PAIR):
        await node.preparation.prepare(ref_of(wire))
    await node.preparation.unprepare(ref_of(PAIR))
    await node.preparation.prepare(ref_of(TRAIN))
    lose(node, previous=False)
    for spec in node.cdi_folder.iterdir():
        spec.unlink()
    silence_api(node)
    await node.restart()
    assert set(node.state().records) == {"beside", "train"}
    for wire in (BESIDE, TRAIN):
        await node.preparation.prepare(ref_of(wire))
    assert node.state() == ready(BESIDE, TRAIN)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_journal_loses_nothing_that_was_ready(node: MemoryNode, damage: Damage) -> None:
    await node.restart()
    for wire in (BESIDE, PAIR):
        await node.preparation.prepare(ref_of(wire))
    newest = max(node.plugin_folder.glob("*.journal"), key=lambda path: path.stat().st_mtime_ns)
    damage(newest)
    await node.restart()
    assert node.state() == ready(BESIDE, PAIR)
    assert list(node.plugin_folder.glob("checkpoint.damaged-*"))


async def test_lines_that_a_journal_has_lost_without_a_sign_are_missed_and_told_again(node: MemoryNode) -> None:
    await node.restart()
    for wire in (BESIDE, PAIR):
        await node.preparation.prepare(ref_of(wire))
    newest = max(node.plugin_folder.glob("*.journal"), key=lambda path: path.stat().st_mtime_ns)
    content = newest.read_bytes()
    lines = content.rstrip(b"\0").splitlines(keepends=True)
    newest.write_bytes(b"".join(lines[:-2]).ljust(len(content), b"\0"))
    await node.restart()
    assert node.state() == ready(BESIDE, PAIR)
