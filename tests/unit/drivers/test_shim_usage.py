"""What the node reads from `usage`, a file in which every byte is the tenant's word."""

from __future__ import annotations

import fcntl
import os
import random
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers import shim_abi as abi
from drivers.errors import ShareFileUnusable
from drivers.shim_contract import ProcessUsage, Usage, create_usage, read_usage

KEY = "c-5d41402abc4b2a76"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_usage(tmp_path / "usage", KEY)
    return tmp_path / "usage"


def poke(path: Path, offset: int, format_: str, *values: object) -> None:
    """Write as a tenant would: in place, anywhere."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(format_, *values))


def slot_offset(slot: int, name: str = "state") -> int:
    return abi.USAGE_HEADER_SIZE + slot * abi.USAGE_SLOT_SIZE + abi.USAGE_SLOT[name].offset


@contextmanager
def living_owner(path: Path, slot: int) -> Iterator[None]:
    """Hold the slot's lock byte through a description of its own, as a process in a container does."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, abi.USAGE_SIZE + slot, 1, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        yield
    finally:
        os.close(descriptor)


def test_fresh_file_has_full_size_and_no_process(path: Path) -> None:
    assert path.stat().st_size == 262144
    assert read_usage(path) == Usage(
        share_key=KEY,
        charged_bytes=0,
        peak_bytes=0,
        budget_ns=0,
        busy_ns=0,
        throttled_ns=0,
        launches=0,
        refused=0,
        refused_bytes=0,
        processes=(),
    )


def test_fresh_file_has_its_head_at_the_published_offsets(path: Path) -> None:
    head = struct.unpack_from("<QIIIIII", path.read_bytes())
    assert head == (0x0041535555504756, 1, 0, 262144, 4096, 256, 1008)


def test_any_user_may_write_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        create_usage(tmp_path / "usage", KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "usage").stat().st_mode) == 0o666


def test_second_creation_leaves_the_accounting_of_a_running_container_alone(path: Path) -> None:
    poke(path, abi.USAGE["charged_bytes"].offset, "<Q", 12345)
    inode = path.stat().st_ino
    create_usage(path, KEY)
    assert read_usage(path).charged_bytes == 12345
    assert path.stat().st_ino == inode


def test_figures_of_a_process_are_told_and_summed_with_those_that_ended(path: Path) -> None:
    poke(path, slot_offset(7), "<IiQ", abi.SLOT_CLAIMED, 42, 1000)
    poke(path, slot_offset(7, "charged_bytes"), "<QQQQQQQ", 60, 10, 20, 30, 0, 5, 6)
    poke(path, slot_offset(7, "busy_ns"), "<QQQQQQ", 100, 200, 3, 400, 5, 600)
    poke(path, slot_offset(7, "nvml_pid"), "<II", 4711, 8)
    poke(path, abi.USAGE["charged_bytes"].offset, "<QQq", 60, 90, -7)
    poke(path, abi.USAGE["ended_busy_ns"].offset, "<QQQQQ", 1, 2, 3, 4, 5)
    with living_owner(path, 7):
        usage = read_usage(path)
    assert usage == Usage(
        share_key=KEY,
        charged_bytes=60,
        peak_bytes=90,
        budget_ns=-7,
        busy_ns=101,
        throttled_ns=202,
        launches=6,
        refused=9,
        refused_bytes=605,
        processes=(
            ProcessUsage(
                slot=7,
                alive=True,
                pid=42,
                start_time=1000,
                charged_bytes=60,
                context_bytes=10,
                module_bytes=20,
                buffer_bytes=30,
                managed_bytes=0,
                resident_bytes=5,
                swap_bytes=6,
                busy_ns=100,
                throttled_ns=200,
                launches=3,
                last_launch_ns=400,
                refused=5,
                refused_bytes=600,
                nvml_pid=4711,
                pid_namespace=8,
            ),
        ),
    )


def test_process_is_alive_as_long_as_it_holds_its_lock_byte(path: Path) -> None:
    for slot in (0, 1, abi.USAGE_SLOTS - 1):
        poke(path, slot_offset(slot), "<I", abi.SLOT_CLAIMED)
    with living_owner(path, 1):
        assert [(p.slot, p.alive) for p in read_usage(path).processes] == [(0, False), (1, True), (1007, False)]
    assert not any(process.alive for process in read_usage(path).processes)


def test_what_a_dead_process_was_charged_is_not_among_the_live_bytes(path: Path) -> None:
    for slot, charged in ((0, 100), (1, 7)):
        poke(path, slot_offset(slot), "<I", abi.SLOT_CLAIMED)
        poke(path, slot_offset(slot, "charged_bytes"), "<Q", charged)
    poke(path, abi.USAGE["charged_bytes"].offset, "<Q", 107)
    with living_owner(path, 1):
        usage = read_usage(path)
    assert (usage.charged_bytes, usage.live_bytes) == (107, 7)
    assert read_usage(path).live_bytes == 0


@pytest.mark.parametrize(
    ("offset", "format_", "value", "field"),
    [
        (0, "<Q", 1, "magic"),
        (8, "<I", 2, "abi_major"),
        (16, "<I", 4096, "size"),
        (20, "<I", 0xFFFFFFFF, "header_size"),
        (24, "<I", 0, "slot_size"),
        (28, "<I", 0xFFFFFFFF, "slot_count"),
        (32, "<64s", b"k" * 64, "share_key"),
        (32, "<2s", b"\xff\n", "share_key"),
        (slot_offset(3), "<I", 2, "slots[3].state"),
    ],
)
def test_hostile_field_is_told_by_its_name(path: Path, offset: int, format_: str, value: object, field: str) -> None:
    poke(path, offset, format_, value)
    with pytest.raises(ShareFileUnusable) as caught:
        read_usage(path)
    assert caught.value.field == field


@pytest.mark.parametrize("size", [0, 1, 4096, abi.USAGE_SIZE - 1])
def test_file_that_was_cut_off_is_told_by_its_size(path: Path, size: int) -> None:
    os.truncate(path, size)
    with pytest.raises(ShareFileUnusable) as caught:
        read_usage(path)
    assert caught.value.field == "size"


def test_file_that_was_blown_up_is_read_no_further_than_its_size(path: Path) -> None:
    os.truncate(path, 2**40)
    assert read_usage(path).share_key == KEY


def test_later_minor_version_is_read(path: Path) -> None:
    poke(path, abi.USAGE["abi_minor"].offset, "<I", 9)
    assert read_usage(path).share_key == KEY


def test_largest_figures_are_told_without_overflow(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(abi.USAGE["charged_bytes"].offset)
        file.write(b"\xff" * (abi.USAGE["reserved"].offset - abi.USAGE["charged_bytes"].offset))
    poke(path, slot_offset(0), "<I", abi.SLOT_CLAIMED)
    poke(path, slot_offset(0, "busy_ns"), "<Q", 2**64 - 1)
    assert read_usage(path).busy_ns == 2 * (2**64 - 1)


def test_missing_file_a_folder_a_link_or_a_pipe_is_told_as_such(tmp_path: Path, path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "link", "pipe", "."):
        with pytest.raises(ShareFileUnusable) as caught:
            read_usage(tmp_path / name)
        assert caught.value.field == "file", name


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_never_raise_anything_but_our_own_error(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path.write_bytes(chance.randbytes(abi.USAGE_SIZE))
    with pytest.raises(ShareFileUnusable):
        read_usage(path)


@pytest.mark.parametrize("seed", range(60))
def test_random_changes_to_a_good_file_give_figures_or_our_own_error(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with path.open("r+b") as file:
        for _ in range(chance.randrange(1, 30)):
            # Every other change aims at the head, where a reader could be led astray.
            file.seek(chance.choice([chance.randrange(168), chance.randrange(abi.USAGE_SIZE)]))
            file.write(chance.choice([chance.randbytes(1), chance.randbytes(8), b"\xff" * 8, b"\1\0\0\0"]))
    try:
        usage = read_usage(path)
    except ShareFileUnusable as error:
        assert error.field  # noqa: PT017 # either outcome is right, and each has something to hold
    else:
        assert usage.charged_bytes >= 0
