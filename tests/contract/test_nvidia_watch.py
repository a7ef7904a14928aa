"""What NVIDIA's driver reports by itself, as the real watch on the simulated library hears it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.backend import Fault, Recovery, WatchesHealth
from drivers.model import Device
from drivers.nvidia import open_backend
from drivers.nvidia.xids import HARMLESS_XIDS
from tests.contract.backend_process import BackendProcess
from tests.contract.nvidia_rig import NvidiaRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[NvidiaRig]:
    made = NvidiaRig(tmp_path)
    yield made
    made.end()


@pytest.fixture
def backend(rig: NvidiaRig) -> BackendProcess:
    return rig.open()


@pytest.fixture
def cards(rig: NvidiaRig, backend: BackendProcess) -> tuple[Device, ...]:
    """The cards, watched: the first fault of one tells that the watch has begun."""
    told = backend.discover()
    backend.watch()
    backend.notices_of(lambda: rig.raise_xid(told[0].uuid, 999))
    return told


def test_the_backend_says_that_it_watches() -> None:
    assert isinstance(open_backend(), WatchesHealth)


def test_an_xid_that_is_nobodys_fault_but_the_cards_is_told_with_its_number(
    rig: NvidiaRig, backend: BackendProcess, cards: tuple[Device, ...]
) -> None:
    rig.raise_xid(cards[1].uuid, 79)
    assert backend.notices() == [Fault(cards[1].uuid, "xid-79", "XID 79: the card has fallen off the bus")]


def test_xids_of_programs_are_not_held_against_the_card(
    rig: NvidiaRig, backend: BackendProcess, cards: tuple[Device, ...]
) -> None:
    for number in sorted(HARMLESS_XIDS):
        rig.raise_xid(cards[0].uuid, number)
    rig.raise_xid(cards[1].uuid, 95)
    assert [notice.device_uuid for notice in backend.notices()] == [cards[1].uuid]


def test_only_memory_errors_that_were_not_corrected_are_told(
    rig: NvidiaRig, backend: BackendProcess, cards: tuple[Device, ...]
) -> None:
    rig.break_memory(cards[0].uuid, corrected=5)
    rig.break_memory(cards[1].uuid, uncorrected=1)
    (notice,) = backend.notices()
    assert isinstance(notice, Fault)
    assert (notice.device_uuid, notice.code) == (cards[1].uuid, "ecc-uncorrected")


def test_a_card_that_goes_and_comes_back_is_told_both_times_and_watched_again(
    rig: NvidiaRig, backend: BackendProcess, cards: tuple[Device, ...]
) -> None:
    rig.lose(cards[0].uuid)
    assert [notice for notice in backend.notices() if isinstance(notice, Fault)] == [
        Fault(cards[0].uuid, "lost", "the card does not answer")
    ]
    rig.restore(cards[0].uuid)
    assert backend.notices() == [Recovery(cards[0].uuid)]
    assert backend.notices_of(lambda: rig.raise_xid(cards[0].uuid, 79))


def test_a_driver_that_is_unloaded_and_loaded_again_is_watched_again(
    rig: NvidiaRig, backend: BackendProcess, cards: tuple[Device, ...]
) -> None:
    rig.unload_driver()
    assert backend.notices_of(lambda: rig.raise_xid(cards[0].uuid, 79))


def test_the_watch_ends_when_it_is_told_to(backend: BackendProcess, cards: tuple[Device, ...]) -> None:
    assert backend.end_watch()


def test_the_watch_waits_for_a_library_that_is_not_there_and_can_be_ended(rig: NvidiaRig) -> None:
    backend = rig.open_without_library()
    backend.watch()
    assert backend.end_watch()


def test_an_xid_of_the_time_before_the_watch_is_told_from_the_kernels_log(
    rig: NvidiaRig, backend: BackendProcess
) -> None:
    first, second = backend.discover()
    rig.log_xid(first, 31)
    rig.log_xid(second, 79)
    backend.watch()
    (notice,) = backend.notices()
    assert isinstance(notice, Fault)
    assert (notice.device_uuid, notice.code) == (second.uuid, "xid-79")
    assert 0 < notice.seconds_ago < 60
