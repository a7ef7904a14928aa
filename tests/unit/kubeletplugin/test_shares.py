"""Share folders: closed to all but root, with accounting that outlives a second prepare."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from dra_driver.kubeletplugin.shares import ShareFolders
from drivers.errors import ShareFileUnusable
from drivers.model import Share
from drivers.shim_contract import Limits, read_limits, read_usage, share_limits
from tests.support.backend import GIB, card


def limits(key: str = "k1", *, memory: int = 4 * GIB, index: int = 0) -> Limits:
    return share_limits(Share(key, card(index), memory, 30), now_ns=7)


@pytest.fixture(params=[False, True], ids=["made anew", "from spares"])
def folders(tmp_path: Path, request: pytest.FixtureRequest) -> ShareFolders:
    one = ShareFolders(tmp_path / "state")
    one.open()
    if request.param:
        one.spares.fill()
    return one


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_the_folder_of_all_shares_is_closed_to_everybody_but_root(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ShareFolders(tmp_path / "state").open()
    finally:
        os.umask(before)
    assert mode(tmp_path / "state" / "shares") == 0o700


def test_a_folder_that_somebody_has_opened_is_closed_again(tmp_path: Path, folders: ShareFolders) -> None:
    (tmp_path / "state" / "shares").chmod(0o777)
    folders.open()
    assert mode(tmp_path / "state" / "shares") == 0o700


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_container_of_any_user_may_read_its_limits_and_write_its_usage(folders: ShareFolders, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = folders.make(limits(), fresh=False)
    finally:
        os.umask(before)
    assert mode(folder / "limits") == 0o644
    assert mode(folder / "usage") == 0o666
    assert mode(folder) == 0o700


def test_the_files_tell_what_was_granted(folders: ShareFolders) -> None:
    folder = folders.make(limits(), fresh=False)
    assert read_limits(folder / "limits") == limits()
    usage = read_usage(folder / "usage")
    assert (usage.share_key, usage.charged_bytes, usage.processes) == ("k1", 0, ())


def test_a_share_from_spares_is_like_any_other(tmp_path: Path) -> None:
    one = ShareFolders(tmp_path / "state")
    one.open()
    one.spares.fill()
    spare, new = one.make(limits("k1"), fresh=False), ShareFolders(tmp_path / "state").make(limits("k2"), fresh=False)
    for name in ("limits", "usage"):
        assert (spare / name).read_bytes().replace(b"k1", b"k2") == (new / name).read_bytes()
        assert mode(spare / name) == mode(new / name)
    assert mode(spare) == mode(new)


def test_a_second_make_keeps_the_files_that_containers_have_mounted(folders: ShareFolders) -> None:
    folder = folders.make(limits(), fresh=False)
    mounted = [(folder / name).stat().st_ino for name in ("limits", "usage")]
    spoiled = b"the tenant's own words"
    with (folder / "usage").open("r+b") as usage:
        usage.write(spoiled)
    assert folders.make(limits(memory=8 * GIB), fresh=False) == folder
    assert [(folder / name).stat().st_ino for name in ("limits", "usage")] == mounted
    assert (folder / "usage").read_bytes().startswith(spoiled)
    assert read_limits(folder / "limits").memory_current_bytes == 8 * GIB


def test_fresh_accounting_replaces_what_was_there(folders: ShareFolders) -> None:
    folder = folders.make(limits(), fresh=False)
    (folder / "usage").write_bytes(b"garbage")
    (folder / "limits").write_bytes(b"garbage")
    folders.make(limits(), fresh=True)
    assert read_usage(folder / "usage").charged_bytes == 0
    assert read_limits(folder / "limits") == limits()


def test_a_share_of_another_card_under_the_same_key_is_not_misled(folders: ShareFolders) -> None:
    folders.make(limits(), fresh=False)
    with pytest.raises(ShareFileUnusable, match="device_uuid"):
        folders.make(limits(index=1), fresh=False)


def test_a_share_is_there_only_with_both_files(folders: ShareFolders) -> None:
    assert not folders.exists("k1")
    folder = folders.make(limits(), fresh=False)
    assert folders.exists("k1")
    (folder / "usage").unlink()
    assert not folders.exists("k1")


def test_removing_a_share_twice_is_a_success_and_leaves_the_others(folders: ShareFolders) -> None:
    for key in ("k1", "k2"):
        folders.make(dataclasses.replace(limits(), share_key=key), fresh=False)
    assert folders.keys() == {"k1", "k2"}
    folders.remove("k1")
    folders.remove("k1")
    assert folders.keys() == {"k2"}
