"""The plugin's memory on disk: whole at any moment, and checked when it is read."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kubeletplugin import checkpoint as module
from dra_driver.kubeletplugin.checkpoint import Checkpoint, PreparedClaim, PreparedShare, State
from drivers.files import write_whole


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
    read(tmp_path).put(claim("a"))
    path = tmp_path / "checkpoint.json"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointUnreadable, match=r"checkpoint\.json: the checksum does not match"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 70, 72, 300, -2])
def test_a_truncated_file_is_noticed_wherever_it_was_cut(tmp_path: Path, kept: int) -> None:
    read(tmp_path).put(claim("a"))
    path = tmp_path / "checkpoint.json"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointUnreadable, match="checksum"):
        read(tmp_path)


def test_a_file_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    file_with(tmp_path, json.dumps({"version": 2, "claims": [], "more": {}}))
    with pytest.raises(CheckpointUnreadable, match="version: 2 is not 1"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content", ["[]", "null", "3", "{}", '{"version": 1}', "not json", '{"version":1,"claims":[{}]}']
)
def test_a_file_that_is_no_checkpoint_is_refused_though_its_checksum_is_right(tmp_path: Path, content: str) -> None:
    file_with(tmp_path, content)
    with pytest.raises(CheckpointUnreadable):
        read(tmp_path)


def test_fields_that_a_later_plugin_has_added_are_passed_over(tmp_path: Path) -> None:
    read(tmp_path).put(claim("a"))
    content = json.loads((tmp_path / "checkpoint.json").read_text().splitlines()[1])
    content["claims"][0]["novelty"] = 1
    content["claims"][0]["shares"][0]["novelty"] = {"a": 1}
    file_with(tmp_path, json.dumps(content))
    assert read(tmp_path).claims() == (claim("a"),)


@pytest.mark.parametrize("change", ["put", "remove"])
def test_a_disk_that_fails_changes_nothing(tmp_path: Path, change: str) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    before = (tmp_path / "checkpoint.json").read_bytes()
    obstacle = tmp_path / ".checkpoint.json.tmp"
    obstacle.mkdir()
    call = (
        functools.partial(checkpoint.put, claim("b"))
        if change == "put"
        else functools.partial(checkpoint.remove, "u-a")
    )
    with pytest.raises(OSError, match="directory"):
        call()
    assert checkpoint.claims() == (claim("a"),)
    assert (tmp_path / "checkpoint.json").read_bytes() == before
    obstacle.rmdir()
    checkpoint.put(claim("b"))
    assert read(tmp_path).claims() == (claim("a"), claim("b"))


def test_a_disk_that_is_full_at_the_last_step_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.put(claim("b"))
    assert checkpoint.claims() == read(tmp_path).claims() == (claim("a"),)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.json", "checkpoint.previous.json"}


def test_what_a_crash_has_left_half_written_is_not_read(tmp_path: Path) -> None:
    read(tmp_path).put(claim("a"))
    (tmp_path / ".checkpoint.json.tmp").write_text("half of")
    checkpoint = read(tmp_path)
    assert checkpoint.claims() == (claim("a"),)
    checkpoint.put(claim("b"))
    assert read(tmp_path).claims() == (claim("a"), claim("b"))


def previous(folder: Path) -> tuple[str, ...]:
    return tuple(one.uid for one in Checkpoint(folder).load_previous())


def test_the_version_before_the_last_change_is_kept(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    assert previous(tmp_path) == ()
    checkpoint.put(claim("a"))
    checkpoint.put(claim("b"))
    assert previous(tmp_path) == ("u-a",)
    checkpoint.remove("u-a")
    assert previous(tmp_path) == ("u-a", "u-b")
    assert read(tmp_path).claims() == (claim("b"),)


def test_a_version_before_that_is_damaged_tells_nothing(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    for name in "ab":
        checkpoint.put(claim(name))
    (tmp_path / "checkpoint.previous.json").write_bytes(b"damaged")
    assert previous(tmp_path) == ()


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
    gate, reached, writes = threading.Event(), threading.Event(), []

    def slow(path: Path, content: bytes, *, mode: int, durable: bool) -> None:
        writes.append(len(content))
        reached.set()
        assert gate.wait(30)
        write_whole(path, content, mode=mode, durable=durable)

    monkeypatch.setattr(module, "write_whole", slow)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(checkpoint.put, claim("first"))
        assert reached.wait(30)
        others = [pool.submit(checkpoint.put, claim(f"c{number}")) for number in range(8)]
        gone = pool.submit(checkpoint.remove, "u-first")
        while len(checkpoint._waiting) < 9:
            time.sleep(0.001)
        gate.set()
        for future in (first, *others, gone):
            future.result(timeout=30)
    assert len(writes) == 2
    assert {one.uid for one in read(tmp_path).claims()} == {f"u-c{number}" for number in range(8)}


def test_a_disk_that_fails_is_told_to_everybody_who_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read(tmp_path)
    gate, reached = threading.Event(), threading.Event()

    def fail(*_arguments: object, **_named: object) -> None:
        reached.set()
        assert gate.wait(30)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_whole", fail)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(checkpoint.put, claim(name)) for name in "abc"]
        assert reached.wait(30)
        gate.set()
        assert all(isinstance(call.exception(timeout=30), OSError) for call in calls)
    assert checkpoint.claims() == ()


def test_the_version_that_is_kept_outlives_a_power_cut(tmp_path: Path) -> None:
    checkpoint = read(tmp_path)
    checkpoint.put(claim("a"))
    for name in "bc":
        checkpoint.put(claim(name, State.STARTED), durable=False)
    assert previous(tmp_path) == ("u-a",)
    checkpoint.put(claim("c"))
    assert previous(tmp_path) == ("u-a",)
    checkpoint.put(claim("d"))
    assert previous(tmp_path) == ("u-a", "u-b", "u-c")
