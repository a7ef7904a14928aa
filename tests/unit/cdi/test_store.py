"""The CDI folder: files appear whole, and only ours are touched."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from dra_driver.cdi.spec import CdiDevice, Edits, Spec
from dra_driver.cdi.store import CdiStore

DRIVER = "vgpu.hami.io"


def spec(*names: str) -> Spec:
    return Spec(f"{DRIVER}/share", tuple(CdiDevice(name, Edits(environment=(f"A={name}",))) for name in names))


@pytest.fixture
def store(tmp_path: Path) -> CdiStore:
    return CdiStore(tmp_path / "cdi", driver=DRIVER)


def test_a_spec_is_written_as_json_that_everybody_may_read(store: CdiStore) -> None:
    store.write("claim-1", spec("a"))
    path = store.path("claim-1")
    assert path.name == "vgpu.hami.io-claim-1.json"
    assert json.loads(path.read_text()) == spec("a").to_json()
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_umask_does_not_close_a_spec_to_the_runtime(store: CdiStore) -> None:
    before = os.umask(0o077)
    try:
        store.write("claim-1", spec("a"))
    finally:
        os.umask(before)
    assert store.path("claim-1").stat().st_mode & 0o777 == 0o644


def test_writing_again_replaces_the_spec_by_a_new_file(store: CdiStore) -> None:
    store.write("claim-1", spec("a"))
    with store.path("claim-1").open() as held:
        store.write("claim-1", spec("b"))
        # Who has opened the earlier one reads it to its end.
        assert json.load(held) == spec("a").to_json()
    assert json.loads(store.path("claim-1").read_text()) == spec("b").to_json()


def test_a_reader_never_sees_half_a_spec_or_a_temporary_file(store: CdiStore, tmp_path: Path) -> None:
    sizes = [spec("a"), spec(*(f"d{number}" for number in range(400)))]
    store.write("claim-1", sizes[0])
    done = threading.Event()

    def write() -> None:
        for number in range(40):
            store.write("claim-1", sizes[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        files = list((tmp_path / "cdi").glob("*.json"))
        assert [file.name for file in files] == ["vgpu.hami.io-claim-1.json"]
        assert json.loads(files[0].read_text()) in [size.to_json() for size in sizes]
        reads += 1
    writer.join()


def test_a_write_that_fails_leaves_the_specs_that_are_there_alone(store: CdiStore, tmp_path: Path) -> None:
    store.write("claim-1", spec("a"))
    (tmp_path / "cdi" / ".vgpu.hami.io-claim-2.json.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        store.write("claim-2", spec("b"))
    assert store.names() == {"claim-1"}
    assert json.loads(store.path("claim-1").read_text()) == spec("a").to_json()


def test_a_rename_that_fails_takes_its_temporary_file_along(
    store: CdiStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("claim-1", spec("a"))

    def refuse(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        store.write("claim-1", spec("b"))
    assert [path.name for path in (tmp_path / "cdi").iterdir()] == ["vgpu.hami.io-claim-1.json"]
    assert json.loads(store.path("claim-1").read_text()) == spec("a").to_json()


def test_what_a_crash_has_left_does_not_keep_the_next_write_from_its_place(store: CdiStore, tmp_path: Path) -> None:
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / ".vgpu.hami.io-claim-1.json.tmp").write_text('{"half')
    assert store.names() == set()
    store.write("claim-1", spec("a"))
    assert [path.name for path in (tmp_path / "cdi").iterdir()] == ["vgpu.hami.io-claim-1.json"]


def test_removing_what_is_not_there_is_a_success(store: CdiStore) -> None:
    store.remove("claim-1")
    store.write("claim-1", spec("a"))
    store.remove("claim-1")
    store.remove("claim-1")
    assert store.names() == set()
    assert not store.exists("claim-1")


def test_files_of_others_are_neither_listed_nor_touched(store: CdiStore, tmp_path: Path) -> None:
    folder = tmp_path / "cdi"
    folder.mkdir()
    others = {"nvidia.yaml": "a", "nvidia.com-gpu.json": "b", "vgpu.hami.io.json": "c", "notes.txt": "d"}
    for name, content in others.items():
        (folder / name).write_text(content)
    store.write("claim-1", spec("a"))
    assert store.names() == {"claim-1"}
    for name in store.names():
        store.remove(name)
    assert {path.name: path.read_text() for path in folder.iterdir()} == others


def test_without_a_folder_there_are_no_specs(store: CdiStore) -> None:
    assert store.names() == set()
    assert not store.exists("claim-1")
