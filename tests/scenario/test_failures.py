"""Vendors and disks that fail in the middle: nothing of the claim stays, or all that its containers use."""

from __future__ import annotations

import errno
import os

import pytest

from drivers.errors import DeviceLost, DriverError
from drivers.model import Share
from tests.scenario.situation import PAIR, TRAIN, WHOLE, is_spoilt, spoil_usage
from tests.support.claims import claim_uid
from tests.support.node import EMPTY, MemoryNode, NodeState, keys_of, ready, ref_of


@pytest.mark.parametrize("at_share", [0, 1])
async def test_a_backend_that_fails_leaves_nothing_of_the_claim(node: MemoryNode, at_share: int) -> None:
    await node.preparation.prepare(ref_of(WHOLE))
    before = node.state()

    def fail(one: Share) -> None:
        if one.key == keys_of(PAIR)[at_share]:
            raise DeviceLost("gpu-0 does not answer")

    node.backend.on_prepare = fail
    with pytest.raises(DeviceLost, match="gpu-0 does not answer"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == before
    node.backend.on_prepare = lambda _share: None
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state().records == {"whole": "COMPLETED", "pair": "COMPLETED"}


async def test_a_roll_back_that_fails_too_is_finished_by_unprepare(node: MemoryNode) -> None:
    def fail(error: DriverError) -> None:
        raise error

    node.backend.on_prepare = lambda _share: fail(DeviceLost("no answer to prepare"))
    node.backend.on_unprepare = lambda _key: fail(DeviceLost("no answer to unprepare"))
    with pytest.raises(DeviceLost, match="no answer to prepare"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == NodeState(records={"pair": "STARTED"})
    node.backend.on_unprepare = lambda _key: None
    await node.preparation.unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_failed_repair_leaves_what_running_containers_use(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    node.spec_path(claim_uid("train")).unlink()

    def fail(_share: Share) -> None:
        raise DeviceLost("gpu-0 does not answer")

    node.backend.on_prepare = fail
    with pytest.raises(DeviceLost):
        await node.preparation.prepare(ref_of(TRAIN))
    assert is_spoilt(node, key)
    assert node.state().records == {"train": "STARTED"}
    # Else the next start would take the library that these devices name for unused.
    assert node.recorded("train").shares[0].cdi_devices
    node.backend.on_prepare = lambda _share: None
    await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)
    assert is_spoilt(node, key)


async def test_a_spec_that_cannot_be_written_leaves_nothing(node: MemoryNode) -> None:
    obstacle = node.spec_path(claim_uid("pair")).with_name(f".{node.spec_path(claim_uid('pair')).name}.tmp")
    obstacle.mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == EMPTY
    obstacle.rmdir()
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


async def test_a_cdi_folder_that_is_none_keeps_the_record_until_it_is_one_again(node: MemoryNode) -> None:
    node.cdi_folder.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="directory"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state().records == {"pair": "STARTED"}
    node.cdi_folder.unlink()
    await node.preparation.unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_record_that_cannot_be_written_stops_before_the_first_effect(node: MemoryNode) -> None:
    obstacle = node.plugin_folder / ".checkpoint.json.tmp"
    obstacle.mkdir()
    with pytest.raises(OSError, match="directory"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == EMPTY
    assert node.backend.prepare_calls == []
    obstacle.rmdir()
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


async def test_a_disk_that_fails_in_the_middle_leaves_at_most_the_record_of_a_start(
    node: MemoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.checkpoint.begin()

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:

        def break_disk(_share: Share) -> None:
            patched.setattr(os, "pwrite", refuse)
            patched.setattr(os, "fsync", refuse)

        node.backend.on_prepare = break_disk
        with pytest.raises(OSError, match="Input/output error"):
            await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == NodeState(records={"train": "STARTED"})
    node.backend.on_prepare = lambda _share: None
    await node.start().prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)


async def test_a_claim_of_a_vendor_that_was_switched_off_can_still_be_taken_back(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    node.start(vendors=())
    await node.preparation.unprepare(ref_of(TRAIN))
    state = node.state()
    assert (state.records, state.specs, state.shares) == ({}, {}, {})
