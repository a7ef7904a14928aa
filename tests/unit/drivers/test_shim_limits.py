"""What the node writes into `limits`, and that a change reaches a container that has the file mapped."""

from __future__ import annotations

import mmap
import os
import stat
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drivers import shim_abi as abi
from drivers.errors import ShareFileUnusable, ShareRefused
from drivers.model import (
    Capacity,
    ComputePolicy,
    Device,
    DeviceType,
    Priority,
    Share,
    ShareSettings,
)
from drivers.shim_contract import Limits, environment_name, environment_value, read_limits, share_limits, write_limits
from drivers.shim_limits import LogLevel, decode, encode

GIB = 1024**3
CARD = Device(
    name="gpu-8f3a1c2d",
    vendor="nvidia",
    type=DeviceType.GPU,
    uuid="GPU-8f3a1c2d-0000-1111-2222-333344445555",
    index=1,
    model="Simulated",
    memory=Capacity(16 * GIB),
    cores=Capacity(100),
    shares=Capacity(10),
    pci_bus_id="0000:3b:00.0",
)
SHARE = Share(
    key="c-5d41402abc4b2a76",
    device=CARD,
    memory=4 * GIB,
    cores=30,
    settings=ShareSettings(compute_policy=ComputePolicy.BURST, priority=Priority.HIGH, log_level="debug"),
)
LIMITS = share_limits(SHARE, now_ns=77)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


@pytest.fixture
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file as a container sees it: mapped before any change."""
    write_limits(path, LIMITS)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def test_share_becomes_limits_that_enforce_what_was_allocated() -> None:
    assert (
        Limits(
            share_key="c-5d41402abc4b2a76",
            device_uuid="GPU-8f3a1c2d-0000-1111-2222-333344445555",
            pci_bus_id="0000:3b:00.0",
            device_index=1,
            device_memory_bytes=16 * GIB,
            device_cores=100,
            memory_guaranteed_bytes=4 * GIB,
            memory_current_bytes=4 * GIB,
            cores_guaranteed=30,
            cores_current=30,
            compute_policy=ComputePolicy.BURST,
            priority=Priority.HIGH,
            log_level=LogLevel.DEBUG,
            deny_on_error=True,
            heartbeat_ns=77,
        )
        == LIMITS
    )


def test_share_with_an_unknown_log_level_is_refused_by_its_field() -> None:
    chatty = replace(SHARE, settings=replace(SHARE.settings, log_level="chatty"))
    with pytest.raises(ShareRefused, match="logLevel: 'chatty'"):
        share_limits(chatty, now_ns=0)


def test_written_bytes_lie_at_the_published_offsets(path: Path) -> None:
    write_limits(path, LIMITS)
    content = path.read_bytes()
    assert len(content) == 4096
    assert struct.unpack_from("<QIIIIQ", content) == (0x004D494C55504756, 1, 0, 4096, 2, 0)
    assert content[32:72] == b"GPU-8f3a1c2d-0000-1111-2222-333344445555"
    assert content[128:141] == b"0000:3b:00.0\0"
    assert content[160:179] == b"c-5d41402abc4b2a76\0"
    assert struct.unpack_from("<QIIQQQ", content, 224) == (16 * GIB, 100, 1, 4 * GIB, 4 * GIB, 0)
    assert struct.unpack_from("<IIIIIIQQ", content, 264) == (30, 30, 1, 1, 0, 4, 77, 0)
    assert not any(content[304:])


def test_what_was_written_is_read_back(path: Path) -> None:
    everything = replace(LIMITS, swap_bytes=5, oversubscribe=True, paused=True, heartbeat_timeout_ns=9)
    write_limits(path, everything)
    assert read_limits(path) == everything


def test_everybody_may_read_and_only_the_owner_may_write(path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_limits(path, LIMITS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_first_write_leaves_nothing_else_in_the_folder(path: Path) -> None:
    write_limits(path, LIMITS)
    assert [entry.name for entry in path.parent.iterdir()] == ["limits"]


def test_change_reaches_a_mapping_made_before_it(path: Path, mapped: mmap.mmap) -> None:
    inode = path.stat().st_ino
    write_limits(path, replace(LIMITS, memory_current_bytes=GIB, cores_current=10))
    assert path.stat().st_ino == inode
    assert decode(mapped[:]).memory_current_bytes == GIB
    assert decode(mapped[:]).cores_current == 10
    assert struct.unpack_from("<Q", mapped, 24) == (2,)


def test_each_change_takes_the_next_even_sequence(path: Path, mapped: mmap.mmap) -> None:
    sequences = []
    for cores in (10, 20, 30):
        write_limits(path, replace(LIMITS, cores_current=cores))
        sequences.append(struct.unpack_from("<Q", mapped, 24)[0])
    assert sequences == [2, 4, 6]


def test_change_that_a_crash_cut_off_is_finished_by_the_next(path: Path, mapped: mmap.mmap) -> None:
    with path.open("r+b") as file:
        file.seek(24)
        file.write(struct.pack("<Q", 5))
    with pytest.raises(ShareFileUnusable, match="sequence: its writer did not finish"):
        read_limits(path)
    write_limits(path, replace(LIMITS, cores_current=12))
    assert read_limits(path).cores_current == 12
    assert struct.unpack_from("<Q", mapped, 24) == (6,)


def test_reader_never_sees_half_a_change(path: Path) -> None:
    """Two fields that always change together are never seen apart."""
    states = [replace(LIMITS, memory_current_bytes=n * GIB, cores_current=n) for n in (1, 2)]
    write_limits(path, states[0])
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for turn in range(400):
                write_limits(path, states[turn % 2])
        except BaseException as error:  # noqa: BLE001 # reported by the test itself
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while writer.is_alive():
        limits = read_limits(path)
        seen.add((limits.memory_current_bytes, limits.cores_current))
    writer.join()
    assert not failures
    assert seen <= {(GIB, 1), (2 * GIB, 2)}
    assert seen


@pytest.mark.parametrize(("field", "value"), [("share_key", "another-share"), ("device_uuid", "GPU-other")])
def test_file_of_another_share_or_card_is_not_overwritten(path: Path, field: str, value: str) -> None:
    write_limits(path, LIMITS)
    before = path.read_bytes()
    with pytest.raises(ShareFileUnusable) as caught:
        write_limits(path, replace(LIMITS, **{field: value}))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert path.read_bytes() == before


def test_file_of_another_major_version_is_not_overwritten(path: Path) -> None:
    content = bytearray(encode(LIMITS))
    struct.pack_into("<I", content, 8, 2)
    path.write_bytes(content)
    with pytest.raises(ShareFileUnusable) as caught:
        write_limits(path, LIMITS)
    assert caught.value.field == "abi_major"
    assert path.read_bytes() == content


@pytest.mark.parametrize("rubbish", [b"", b"short", b"\0" * 4096])
def test_file_that_no_reader_accepts_is_replaced(path: Path, rubbish: bytes) -> None:
    path.write_bytes(rubbish)
    write_limits(path, LIMITS)
    assert read_limits(path) == LIMITS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("share_key", "k" * 64),
        ("share_key", "new\nline"),
        ("device_uuid", "GPU-ü"),
        ("memory_current_bytes", 2**64),
        ("cores_current", -1),
    ],
)
def test_value_that_does_not_fit_is_told_by_its_field_and_changes_nothing(
    path: Path, field: str, value: str | int
) -> None:
    write_limits(path, LIMITS)
    before = path.read_bytes()
    with pytest.raises(ShareFileUnusable) as caught:
        write_limits(path, replace(LIMITS, **{field: value}))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["compute_policy", "priority", "log_level"])
def test_code_outside_an_enumeration_is_told_by_its_field(name: str) -> None:
    content = bytearray(encode(LIMITS))
    struct.pack_into("<I", content, abi.LIMITS[name].offset, 99)
    with pytest.raises(ShareFileUnusable) as caught:
        decode(bytes(content))
    assert caught.value.field == name


def test_words_say_what_the_file_says() -> None:
    plain = replace(LIMITS, compute_policy=ComputePolicy.FIXED, priority=Priority.LOW)
    assert environment_value(plain) == (
        "uuid=GPU-8f3a1c2d-0000-1111-2222-333344445555,memory=4294967296,cores=30,policy=fixed,priority=low"
    )


def test_a_share_that_may_use_the_hosts_memory_says_so_in_file_and_words() -> None:
    more = share_limits(replace(SHARE, settings=ShareSettings(host_memory=3 * GIB)), now_ns=77)
    assert (more.oversubscribe, more.swap_bytes) == (True, 3 * GIB)
    assert (LIMITS.oversubscribe, LIMITS.swap_bytes) == (False, 0)
    assert environment_value(more).endswith(f",priority=low,swap={3 * GIB}")


def test_variable_name_holds_only_capitals_digits_and_underscores() -> None:
    assert environment_name("c-5d41.a_b") == "VGPU_SHARE_C_5D41_A_B"
