"""Spares take the place of what would have to be made, and whoever finds none makes it as ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dra_driver.kubeletplugin import spares as spares_module
from dra_driver.kubeletplugin.spares import Spares


def make(folder: Path) -> None:
    folder.mkdir()
    (folder / "name").touch()


def name_it(folder: Path) -> None:
    (folder / "name").write_text("mine")


@pytest.fixture
def spares(tmp_path: Path) -> Spares:
    one = Spares(tmp_path / "spare", make, number=2)
    one.open()
    return one


def test_a_spare_is_completed_and_moved_into_place(spares: Spares, tmp_path: Path) -> None:
    spares.fill()
    assert spares.use(tmp_path / "place", name_it)
    assert (tmp_path / "place/name").read_text() == "mine"
    assert len(list((tmp_path / "spare").iterdir())) == 1


def test_there_are_as_many_as_there_are_to_be(spares: Spares, tmp_path: Path) -> None:
    spares.fill()
    spares.fill()
    assert len(list((tmp_path / "spare").iterdir())) == 2


def test_without_a_spare_nothing_happens(spares: Spares, tmp_path: Path) -> None:
    assert not spares.use(tmp_path / "place", name_it)
    assert not (tmp_path / "place").exists()


def test_what_is_in_place_already_stays(spares: Spares, tmp_path: Path) -> None:
    spares.fill()
    make(tmp_path / "place")
    assert not spares.use(tmp_path / "place", name_it)
    assert (tmp_path / "place/name").read_text() == ""


def test_a_spare_that_another_process_took_away_is_none(spares: Spares, tmp_path: Path) -> None:
    spares.fill()
    Spares(tmp_path / "spare", make, number=2).open()
    assert not spares.use(tmp_path / "place", name_it)
    assert not (tmp_path / "place").exists()
    spares.fill()
    assert spares.use(tmp_path / "place", name_it)


def test_a_folder_that_somebody_removed_is_made_again(spares: Spares, tmp_path: Path) -> None:
    spares.fill()
    shutil.rmtree(tmp_path / "spare")
    assert not spares.use(tmp_path / "place", name_it)
    spares.fill()
    assert spares.use(tmp_path / "place", name_it)


def test_a_disk_that_is_nearly_full_is_left_to_what_is_needed_now(
    spares: Spares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spares_module, "_LEAST_FREE", 1 << 62)
    spares.fill()
    assert list((tmp_path / "spare").iterdir()) == []


def test_a_spare_that_cannot_be_completed_is_no_ones(spares: Spares, tmp_path: Path) -> None:
    def fail(_spare: Path) -> None:
        raise ValueError("not like this")

    spares.fill()
    with pytest.raises(ValueError, match="not like this"):
        spares.use(tmp_path / "place", fail)
    assert not (tmp_path / "place").exists()
    assert len(list((tmp_path / "spare").iterdir())) == 1


def test_a_new_start_removes_what_is_left(spares: Spares, tmp_path: Path) -> None:
    spares.fill()
    (tmp_path / "spare/file").touch()
    spares.open()
    assert list((tmp_path / "spare").iterdir()) == []
