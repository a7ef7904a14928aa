"""Changes, line by line: each whole or not there, and of any version that can be followed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from dra_driver.kubeletplugin.checkpoint_format import VERSION, Format, encode_record
from dra_driver.kubeletplugin.journal import Journal, decode_journal, put_line, read_journal, removed_line
from tests.unit.kubeletplugin.test_checkpoint import claim

SIZE = 4096


def lines(*names: str) -> bytes:
    return b"".join(put_line(encode_record(claim(name))) for name in names)


def journal(folder: Path, content: bytes = b"") -> Path:
    one = Journal(folder / "checkpoint.1.journal", 1, SIZE)
    one.append(content)
    one.close()
    return one.path


def line(document: Any) -> bytes:
    """A line as any version writes it."""
    content = json.dumps(document).encode()
    return hashlib.sha256(content).hexdigest()[:16].encode() + b" " + content + b"\n"


def test_changes_are_read_in_their_order(tmp_path: Path) -> None:
    read = read_journal(journal(tmp_path, lines("a", "b") + removed_line("u-a") + lines("c")))
    assert read.damage == ""
    assert [change.uid for change in read.changes] == ["u-a", "u-b", "u-a", "u-c"]
    assert tuple(read.applied([claim("a"), claim("z")]).values()) == (claim("z"), claim("b"), claim("c"))


@pytest.mark.parametrize("kept", range(0, 1200, 97))
def test_a_line_that_was_not_finished_is_none(tmp_path: Path, kept: int) -> None:
    whole = lines("a", "b")
    read = read_journal(journal(tmp_path, whole[: min(kept, len(whole) - 1)]))
    assert read.damage == ""
    assert len(read.changes) == whole[:kept].count(b"\n")


def test_a_line_in_the_middle_that_is_no_longer_whole_is_damage(tmp_path: Path) -> None:
    path = journal(tmp_path, lines("a", "b", "c"))
    content = path.read_bytes()
    place = content.index(b"u-b")
    path.write_bytes(content[:place] + bytes(8) + content[place + 8 :])
    read = read_journal(path)
    assert read.damage == "line 3: the checksum does not match"
    assert [change.uid for change in read.changes] == ["u-a"]


@pytest.mark.parametrize("kept", [0, 10, 200, SIZE - 1])
def test_a_file_that_was_cut_off_is_damage_though_its_lines_are_whole(tmp_path: Path, kept: int) -> None:
    path = journal(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    assert read_journal(path).damage


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "checkpoint.1.journal").damage == "the file is gone"


@pytest.mark.parametrize("document", [[], "x", 3, None, {}, {"put": 3}, {"put": {"uid": "u"}}, {"removed": 7}])
def test_a_line_that_makes_no_sense_is_damage_though_its_checksum_is_right(document: Any) -> None:
    head = line({"version": VERSION, "oldest_reader": VERSION, "journal": 1})
    assert decode_journal(head + line(document) + lines("a")).damage.startswith("line 2")


def test_a_journal_of_the_version_before_is_brought_up() -> None:
    record = json.loads(encode_record(claim("a")))
    old = line({"version": VERSION, "oldest_reader": VERSION, "journal": 1})
    old += line({"put": {**record, "namespace": "", "name": "team-a/a"}})

    def split_names(document: dict[str, Any]) -> dict[str, Any]:
        claims = [dict(one, namespace=one["name"].split("/")[0], name="a") for one in document["claims"]]
        return {"version": VERSION + 1, "claims": claims}

    read = decode_journal(old, reader=Format(VERSION + 1, {VERSION: split_names}))
    assert [change.record for change in read.changes] == [claim("a")]


def test_a_journal_of_a_later_version_is_read_where_that_says_so() -> None:
    record = json.loads(encode_record(claim("a"))) | {"novelty": 1}
    head = {"version": VERSION + 1, "oldest_reader": VERSION, "journal": 1}
    assert [change.record for change in decode_journal(line(head) + line({"put": record})).changes] == [claim("a")]
    head["oldest_reader"] = VERSION + 1
    assert "says nothing to its reader" in decode_journal(line(head) + line({"put": record})).damage
