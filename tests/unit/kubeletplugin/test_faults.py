"""What is held against a card, and for how long."""

from __future__ import annotations

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dra_driver.kubeletplugin import joint_file
from dra_driver.kubeletplugin.faults import FILE_NAME, FaultBook
from drivers.backend import Fault, Recovery
from tests.support.backend import card

FIRST, SECOND = card(0), card(1)
XID = Fault(FIRST.uuid, "xid-79", "XID 79: the card has fallen off the bus")
ECC = Fault(FIRST.uuid, "ecc-uncorrected", "a memory error")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def book(clock: Clock, folder: Path | None = None, *, boot_id: str = "boot-1") -> FaultBook:
    one = FaultBook(quiet_seconds=60, clock=clock, folder=folder, boot_id=boot_id)
    one.load()
    return one


def codes(one: FaultBook) -> list[str]:
    return [device.unhealthy_code for device in one.judge([FIRST, SECOND])]


def test_a_fault_makes_its_card_unhealthy_and_no_other(clock: Clock) -> None:
    one = book(clock)
    one.take(XID)
    told = one.judge([FIRST, SECOND])
    assert (told[0].unhealthy, told[0].unhealthy_code) == (XID.reason, "xid-79")
    assert told[1] == SECOND


def test_a_card_that_stays_quiet_is_healthy_again(clock: Clock) -> None:
    one = book(clock)
    one.take(XID)
    clock.now += 59
    assert codes(one) == ["xid-79", ""]
    clock.now += 1
    assert codes(one) == ["", ""]


def test_every_repetition_starts_the_quiet_time_anew_and_is_logged_once(clock: Clock) -> None:
    one = book(clock)
    with capture_logs() as logs:
        one.take(XID)
        clock.now += 40
        one.take(XID)
    clock.now += 40
    assert codes(one) == ["xid-79", ""]
    assert [entry["event"] for entry in logs] == ["card_fault"]


def test_a_card_that_is_seen_to_recover_is_healthy_at_once(clock: Clock) -> None:
    one = book(clock)
    one.take(XID)
    one.take(ECC)
    one.take(Recovery(FIRST.uuid))
    assert codes(one) == ["", ""]


@pytest.mark.parametrize("code", ["lost", "needs-recovery"])
def test_a_card_that_was_reset_is_healthy_as_soon_as_it_is_well(clock: Clock, code: str) -> None:
    one = book(clock)
    one.take(XID)
    down = replace(FIRST, unhealthy="out of order", unhealthy_code=code)
    assert [device.unhealthy_code for device in one.judge([down, SECOND])] == [code, ""]
    assert codes(one) == ["", ""]
    one.take(XID)
    assert codes(one) == ["xid-79", ""], "what comes later is held against it"


def test_a_card_that_got_its_cdi_device_back_was_not_reset(clock: Clock) -> None:
    one = book(clock)
    one.take(XID)
    one.judge([replace(FIRST, unhealthy="none", unhealthy_code="no-cdi-device"), SECOND])
    assert codes(one) == ["xid-79", ""]


def test_the_last_fault_is_the_one_that_is_told(clock: Clock) -> None:
    one = book(clock)
    one.take(ECC)
    clock.now += 1
    one.take(XID)
    assert codes(one) == ["xid-79", ""]
    clock.now += 1
    one.take(ECC)
    assert codes(one) == ["ecc-uncorrected", ""]


def test_what_the_cards_own_state_says_comes_first(clock: Clock) -> None:
    one = book(clock)
    one.take(XID)
    (told,) = one.judge([card(0, unhealthy="no CDI device")])
    assert told.unhealthy == "no CDI device"


def test_faults_outlive_the_plugin_and_not_a_reboot(clock: Clock, tmp_path: Path) -> None:
    book(clock, tmp_path).take(XID)
    assert codes(book(clock, tmp_path)) == ["xid-79", ""]
    assert codes(book(clock, tmp_path, boot_id="boot-2")) == ["", ""]


def test_a_fault_that_is_over_is_not_read_again(clock: Clock, tmp_path: Path) -> None:
    book(clock, tmp_path).take(XID)
    clock.now += 60
    assert codes(book(clock, tmp_path)) == ["", ""]
    clock.now -= 30
    assert codes(book(clock, tmp_path)) == ["", ""]


def test_a_book_that_cannot_be_read_is_an_empty_one(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")
    with capture_logs() as logs:
        assert codes(book(clock, tmp_path)) == ["", ""]
    assert [entry["event"] for entry in logs] == ["joint_file_unreadable"]


def test_a_book_that_cannot_be_written_is_still_kept(clock: Clock, tmp_path: Path) -> None:
    one = book(clock, tmp_path / "gone")
    one.take(XID)
    assert codes(one) == ["xid-79", ""]


def test_a_card_with_ever_new_faults_does_not_fill_the_book(clock: Clock, tmp_path: Path) -> None:
    one = book(clock, tmp_path)
    for number in range(100):
        clock.now += 0.1
        one.take(Fault(FIRST.uuid, f"xid-{number}", "x"))
    assert codes(one) == ["xid-99", ""]
    assert (tmp_path / FILE_NAME).read_text().count('"code"') <= 8


# Two plugins side by side.


def test_what_one_plugin_hears_the_other_knows_and_neither_overwrites_the_other(clock: Clock, tmp_path: Path) -> None:
    old, new = book(clock, tmp_path), book(clock, tmp_path)
    old.take(XID)
    new.take(Fault(SECOND.uuid, "xid-48", "XID 48"))
    assert codes(old) == codes(new) == codes(book(clock, tmp_path)) == ["xid-79", "xid-48"]
    old.take(Recovery(FIRST.uuid))
    assert codes(new) == codes(old) == ["", "xid-48"]


def test_books_that_are_written_at_once_stay_whole(clock: Clock, tmp_path: Path) -> None:
    books = [book(clock, tmp_path) for _ in range(4)]

    def hear(one: FaultBook, number: int) -> None:
        for _ in range(20):
            one.take(Fault(f"GPU-{number}", "xid-48", "XID 48"))
            clock.now += 0.001

    with ThreadPoolExecutor() as pool:
        list(pool.map(hear, books, range(len(books))))
    told = {fault["device_uuid"] for fault in json.loads((tmp_path / FILE_NAME).read_text())["faults"]}
    assert told == {f"GPU-{number}" for number in range(len(books))}


def test_a_plugin_that_was_stopped_while_it_wrote_does_not_stop_the_other(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_file, "_PATIENCE_SECONDS", 0.05)
    one = book(clock, tmp_path)
    one.take(ECC)
    with (tmp_path / FILE_NAME).with_suffix(".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with capture_logs() as logs:
            one.take(XID)
    assert "joint_file_not_locked" in [entry["event"] for entry in logs]
    assert codes(one)[0] in ("xid-79", "ecc-uncorrected")
    assert codes(book(clock, tmp_path)) == codes(one)


def test_what_could_not_be_written_is_not_forgotten_for_what_is_on_the_disk(clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "book"
    folder.mkdir()
    one = book(clock, folder)
    one.take(Fault(SECOND.uuid, "xid-48", "XID 48"))
    folder.rename(tmp_path / "away")
    one.take(XID)
    (tmp_path / "away").rename(folder)
    assert codes(one) == ["xid-79", "xid-48"]
    one.take(XID)
    assert codes(book(clock, folder)) == ["xid-79", "xid-48"]


# What is found out only later.


def test_a_fault_of_the_past_is_over_when_it_would_have_been(clock: Clock) -> None:
    one = book(clock)
    one.take(replace(XID, seconds_ago=50))
    assert codes(one) == ["xid-79", ""]
    clock.now += 10
    assert codes(one) == ["", ""]


def test_a_fault_that_is_over_long_since_is_not_heard_of_again(clock: Clock) -> None:
    one = book(clock)
    with capture_logs() as logs:
        assert not one.take(replace(XID, seconds_ago=61))
    assert codes(one) == ["", ""]
    assert logs == []


def test_a_fault_from_before_the_card_recovered_is_not_held_against_it_by_any_plugin(
    clock: Clock, tmp_path: Path
) -> None:
    one = book(clock, tmp_path)
    one.take(XID)
    clock.now += 10
    one.take(Recovery(FIRST.uuid))
    clock.now += 10
    following = book(clock, tmp_path)
    following.take(replace(XID, seconds_ago=20))
    assert codes(following) == ["", ""]
    following.take(replace(XID, seconds_ago=5))
    assert codes(following) == ["xid-79", ""]


def test_what_is_told_again_from_the_past_makes_a_fault_no_younger(clock: Clock) -> None:
    one = book(clock)
    one.take(XID)
    clock.now += 30
    assert not one.take(replace(XID, seconds_ago=30))
    clock.now += 30
    assert codes(one) == ["", ""]
