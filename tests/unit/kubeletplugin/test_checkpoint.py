"""The plugin's memory on disk: whole at any moment, and checked when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kubeletplugin.checkpoint import Checkpoint, PreparedClaim, PreparedShare, State
from dra_driver.kubeletplugin.checkpoint_format import Format, decode
from dra_driver.kubeletplugin.journal import Journal


def claim(name: str, state: State = State.COMPLETED) -> PreparedClaim:
    shares = tuple(
        PreparedShare(
            key=f"key-{name}-{number}",
            request="gpu/large",
            pool="node-a-nvidia",
            device="gpu-0",
            share_id=share_id,
            vendor="nvidia",
            device_uuid="GPU-1",
            memory=4 << 30,
            cores=30,
            whole=share_id is None,
            cdi_devices=("nvidia.com/gpu=GPU-1", f"vgpu.hami.io/share=key-{name}-{number}"),
        )
        for number, share_id in enumerate(("s1", None))
    )
    return PreparedClaim(uid=f"u-{name}", namespace="team-a", name=name, state=state, boot_id="boot", shares=shares)


def read(folder: Path) -> Checkpoint:
    checkpoint = Checkpoint(folder)
    checkpoint.load()
    return checkpoint


def whole(folder: Path, *names: str) -> Path:
    """A file with these claims in it and no journal."""
    checkpoint = read(folder)
    for name in names:
        checkpoint.put(claim(name))
    checkpoint.fold()
    return folder / "checkpoint.json"


def file_with(folder: Path, content: str) -> Path:
    path = folder / "checkpoint.json"
    path.write_text(f"sha256:{hashlib.sha256(content.encode()).hexdigest()}\n{content}\n")
    return path


def test_no_file_is_an_empty_checkpoint(tmp_path: Path) -> None:
    assert read(tmp_path).claims() == ()


def test_what_is_put_is_read_by_the_next_process(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a", State.STARTED))
    checkpoint.put(claim("b"))
    checkpoint.put(claim("a"))
    assert read(tmp_path).claims() == checkpoint.claims() == (claim("a"), claim("b"))
    assert read(tmp_path).get("u-a") == claim("a")
    assert read(tmp_path).get("u-z") is None


def test_what_is_removed_is_gone_for_the_next_process(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    checkpoint.put(claim("b"))
    checkpoint.remove("u-a")
    checkpoint.remove("u-a")
    assert read(tmp_path).claims() == (claim("b"),)


def test_only_root_may_read_the_file(tmp_path: Path) -> None:
    read(tmp_path).put(claim("a"))
    assert (tmp_path / "checkpoint.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", [0, 10, 75, 200, -2])
def test_a_changed_byte_is_noticed(tmp_path: Path, place: int) -> None:
    path = whole(tmp_path, "a")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=r"checkpoint\.json: the checksum does not match"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 70, 72, 300, -2])
def test_a_truncated_file_is_noticed_wherever_it_was_cut(tmp_path: Path, kept: int) -> None:
    path = whole(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointUnreadable, match="checksum"):
        read(tmp_path)


def test_a_file_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    file_with(tmp_path, json.dumps({"version": 3, "claims": [], "more": {}}))
    with pytest.raises(CheckpointUnreadable, match="version: 3 is not 2"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", ["[]", "null", "3", "{}", '{"version": 1}', "not json", '{"version":1,"claims":[{}]}']
)
def test_a_file_that_is_no_checkpoint_is_refused_though_its_checksum_is_right(tmp_path: Path, content: str) -> None:
    file_with(tmp_path, content)
    with pytest.raises(CheckpointUnreadable):
        read(tmp_path)


def test_fields_that_a_later_plugin_has_added_are_passed_over(tmp_path: Path) -> None:
    content = json.loads(whole(tmp_path, "a").read_text().splitlines()[1])
    content["claims"][0]["novelty"] = 1
    content["claims"][0]["shares"][0]["novelty"] = {"a": 1}
    file_with(tmp_path, json.dumps(content))
    assert read(tmp_path).claims() == (claim("a"),)


def refuse(*_arguments: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("change", ["put", "remove"])
@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_disk_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, call: str
) -> None:
    checkpoint = Checkpoint(tmp_path, alone=lambda: call == "pwrite")
    checkpoint.refresh()
    checkpoint.put(claim("a"))
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.put(claim("b")) if change == "put" else checkpoint.remove("u-a")
    assert checkpoint.claims() == read(tmp_path).claims() == (claim("a"),)
    assert not list(tmp_path.glob(".*"))
    checkpoint.put(claim("b"))
    assert read(tmp_path).claims() == (claim("a"), claim("b"))


def test_a_line_that_the_disk_took_only_half_of_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    write = os.pwrite

    def write_half(descriptor: int, content: bytes, offset: int) -> int:
        write(descriptor, content[: len(content) // 2], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", write_half)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.put(claim("b"))
    assert read(tmp_path).claims() == (claim("a"),)
    checkpoint.put(claim("c"))
    assert read(tmp_path).claims() == checkpoint.claims() == (claim("a"), claim("c"))


def test_a_disk_that_is_full_takes_changes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        checkpoint.remove("u-a")
    assert read(tmp_path).claims() == ()


def test_what_a_crash_has_left_half_written_is_not_read(tmp_path: Path) -> None:
    read(tmp_path).put(claim("a"))
    (tmp_path / ".checkpoint.json.tmp").write_text("half of")
    checkpoint = read(tmp_path)
    assert checkpoint.claims() == (claim("a"),)
    checkpoint.put(claim("b"))
    assert read(tmp_path).claims() == (claim("a"), claim("b"))


def newest_left(folder: Path) -> tuple[str, ...]:
    return tuple(one.uid for one in Checkpoint(folder).load_previous())


def journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def test_a_change_writes_what_it_says_and_not_the_whole_file(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    before = (tmp_path / "checkpoint.json").stat()
    checkpoint.put(claim("b"))
    checkpoint.remove("u-a")
    assert os.path.samestat((tmp_path / "checkpoint.json").stat(), before)
    assert read(tmp_path).claims() == (claim("b"),)


def test_a_journal_that_is_full_is_taken_into_a_new_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, journal_size=4096)
    for number in range(40):
        checkpoint.put(claim(f"c{number}"))
        assert read(tmp_path).claims() == checkpoint.claims()
    assert len(journals(tmp_path)) == 2
    assert all(path.stat().st_size == 4096 for path in journals(tmp_path))


def test_a_long_journal_is_taken_in_beside_the_calls(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, journal_size=4096)
    for name in "abcde":
        checkpoint.put(claim(name))
    (first,) = journals(tmp_path)
    checkpoint.keep_up()
    assert len(journals(tmp_path)) == 2
    second = next(path for path in journals(tmp_path) if path != first)
    assert b"put" not in second.read_bytes()
    assert read(tmp_path).claims() == checkpoint.claims()
    checkpoint.keep_up()
    assert len(journals(tmp_path)) == 2


def test_a_file_that_is_damaged_takes_nothing_along(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, journal_size=4096)
    for number in range(20):
        checkpoint.put(claim(f"c{number}"))
    checkpoint.remove("u-c3")
    (tmp_path / "checkpoint.json").write_bytes(b"damaged")
    assert set(newest_left(tmp_path)) == {one.uid for one in checkpoint.claims()}


def test_what_stands_before_the_damage_of_a_journal_is_still_told(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    for name in "abc":
        checkpoint.put(claim(name))
    (path,) = journals(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"name":"c"', b'"name":"d"'))
    with pytest.raises(
        CheckpointUnreadable, match=r"checkpoint journal .*journal: line 4: the checksum does not match"
    ):
        read(tmp_path)
    assert newest_left(tmp_path) == ("u-a", "u-b")


def test_with_nothing_left_nothing_is_told(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    for name in "ab":
        checkpoint.put(claim(name))
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    assert newest_left(tmp_path) == ()


def test_a_journal_that_is_gone_is_noticed(tmp_path: Path) -> None:
    read(tmp_path).put(claim("a"))
    journals(tmp_path)[0].unlink()
    with pytest.raises(CheckpointUnreadable, match="the file is gone"):
        read(tmp_path)


def test_while_another_plugin_lives_every_change_is_a_file_that_every_version_reads(tmp_path: Path) -> None:
    others = False
    checkpoint = Checkpoint(tmp_path, alone=lambda: not others)
    checkpoint.put(claim("a"))
    others = True
    checkpoint.refresh()
    checkpoint.put(claim("b"))
    raw = (tmp_path / "checkpoint.json").read_bytes()
    assert decode(raw, reader=Format(version=1)).claims == (claim("a"), claim("b"))
    others = False
    checkpoint.refresh()
    checkpoint.put(claim("c"))
    with pytest.raises(CheckpointUnreadable):
        decode((tmp_path / "checkpoint.json").read_bytes(), reader=Format(version=1))
    assert read(tmp_path).claims() == checkpoint.claims()


def test_what_is_left_at_the_end_is_a_file_that_every_version_reads(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    for name in "abc":
        checkpoint.put(claim(name))
    checkpoint.fold()
    raw = (tmp_path / "checkpoint.json").read_bytes()
    assert decode(raw, reader=Format(version=1)).claims == checkpoint.claims()
    identity = (tmp_path / "checkpoint.json").stat().st_ino
    checkpoint.fold()
    assert (tmp_path / "checkpoint.json").stat().st_ino == identity


def test_a_file_tells_the_boot_in_which_it_was_written(tmp_path: Path) -> None:
    Checkpoint(tmp_path, boot_id="boot-1").put(claim("a"))
    assert read(tmp_path).written_in == "boot-1"


def test_a_journal_that_somebody_has_changed_under_a_living_plugin_is_written_again(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    for name in "ab":
        checkpoint.put(claim(name))
    journals(tmp_path)[0].write_bytes(b"damaged")
    checkpoint.refresh()
    assert read(tmp_path).claims() == checkpoint.claims() == (claim("a"), claim("b"))


def test_a_sync_waits_for_the_disk_once_for_all_that_was_changed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    syncs: list[int] = []
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    checkpoint.put(claim("b"))
    checkpoint.put(claim("c"))
    checkpoint.sync()
    checkpoint.sync()
    assert len(syncs) == 1


def test_a_sync_that_fails_is_made_good_by_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    checkpoint.put(claim("b"))
    (first,) = journals(tmp_path)
    monkeypatch.setattr(os, "fdatasync", refuse)
    checkpoint.sync()
    assert decode((tmp_path / "checkpoint.json").read_bytes()).claims == (claim("a"), claim("b"))
    assert first in journals(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse)
    checkpoint.put(claim("c"))
    with pytest.raises(OSError, match="No space left"):
        checkpoint.sync()


def test_what_another_process_wrote_is_read_by_a_refresh(tmp_path: Path) -> None:
    ours, theirs = read(tmp_path), read(tmp_path)
    theirs.put(claim("a"))
    assert ours.claims() == ()
    ours.refresh()
    assert ours.claims() == (claim("a"),)
    ours.put(claim("b"))
    theirs.refresh()
    theirs.remove("u-a")
    ours.refresh()
    assert ours.claims() == read(tmp_path).claims() == (claim("b"),)


def test_a_refresh_reads_nothing_while_nobody_else_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    monkeypatch.setattr(Path, "read_bytes", lambda _path: pytest.fail("it was read"))
    checkpoint.refresh()


def test_changes_that_come_while_the_disk_is_busy_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("zero"))
    gate, reached, writes = threading.Event(), threading.Event(), []
    append = Journal.append

    def slow(journal: Journal, lines: bytes) -> None:
        writes.append(lines.count(b"\n"))
        reached.set()
        assert gate.wait(30)
        append(journal, lines)

    monkeypatch.setattr(Journal, "append", slow)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(checkpoint.put, claim("first"))
        assert reached.wait(30)
        others = [pool.submit(checkpoint.put, claim(f"c{number}")) for number in range(8)]
        gone = pool.submit(checkpoint.remove, "u-zero")
        while len(checkpoint._waiting) < 9:
            time.sleep(0.001)
        gate.set()
        for future in (first, *others, gone):
            future.result(timeout=30)
    assert writes == [1, 9]
    assert {one.uid for one in read(tmp_path).claims()} == {"u-first", *(f"u-c{number}" for number in range(8))}


def test_a_disk_that_fails_is_told_to_everybody_who_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read(tmp_path)
    checkpoint.begin()
    gate, reached = threading.Event(), threading.Event()

    def fail(*_arguments: object) -> None:
        reached.set()
        assert gate.wait(30)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", fail)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(checkpoint.put, claim(name)) for name in "abc"]
        assert reached.wait(30)
        gate.set()
        assert all(isinstance(call.exception(timeout=30), OSError) for call in calls)
    assert checkpoint.claims() == ()
