"""What a tenant does to the size of a usage file is undone, and nothing else is touched."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dra_driver.kubeletplugin.overgrowth import Overgrowth
from dra_driver.kubeletplugin.shares import ShareFolders
from drivers.shim_contract import USAGE_SIZE, create_usage, read_usage

KEEP_SIZE = 1


@pytest.fixture
def shares(tmp_path: Path) -> Path:
    """The folder of two shares."""
    ShareFolders(tmp_path).open()
    for key in ("one", "two"):
        (tmp_path / "shares" / key).mkdir()
        create_usage(tmp_path / "shares" / key / "usage", key)
    return tmp_path / "shares"


def look(shares: Path) -> list[tuple[str, str]]:
    with capture_logs() as told:
        Overgrowth(ShareFolders(shares.parent)).look()
    return [(entry["event"], entry["share"]) for entry in told]


def disk_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_what_was_appended_is_cut_off_and_what_was_accounted_stays(shares: Path) -> None:
    usage = shares / "one" / "usage"
    before = usage.read_bytes()
    with usage.open("ab") as file:
        file.write(b"x" * 5_000_000)
    assert look(shares) == [("usage_file_cut", "one")]
    assert usage.read_bytes() == before
    assert read_usage(usage).share_key == "one"
    assert look(shares) == []


def test_a_hole_as_large_as_the_disk_is_cut_off_too(shares: Path) -> None:
    os.truncate(shares / "two" / "usage", 1 << 40)
    assert look(shares) == [("usage_file_cut", "two")]
    assert (shares / "two" / "usage").stat().st_size == USAGE_SIZE


def test_room_that_was_reserved_behind_the_end_is_given_back(shares: Path) -> None:
    usage = shares / "one" / "usage"
    with usage.open("r+b") as file:
        status = ctypes.CDLL(None, use_errno=True).fallocate(
            file.fileno(), KEEP_SIZE, ctypes.c_long(USAGE_SIZE), ctypes.c_long(8_000_000)
        )
    if status != 0:
        pytest.skip(f"this file system reserves nothing: {os.strerror(ctypes.get_errno())}")
    assert usage.stat().st_size == USAGE_SIZE
    assert disk_bytes(usage) > 8_000_000
    assert look(shares) == [("usage_file_cut", "one")]
    assert disk_bytes(usage) < 2 * USAGE_SIZE


def test_a_file_that_is_too_small_is_left_to_the_tenant_who_made_it_so(shares: Path) -> None:
    os.truncate(shares / "one" / "usage", 100)
    assert look(shares) == []
    assert (shares / "one" / "usage").stat().st_size == 100


def test_what_is_no_file_and_what_has_gone_are_passed_over(shares: Path, tmp_path: Path) -> None:
    (shares / "one" / "usage").unlink()
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 2 * USAGE_SIZE)
    (shares / "two" / "usage").unlink()
    (shares / "two" / "usage").symlink_to(outside)
    assert look(shares) == []
    assert outside.stat().st_size == 2 * USAGE_SIZE
