"""Logs can be searched: one key for one thing, whoever writes the line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error"}
# What somebody might write, and what it is called here.
OTHER_WORDS = {
    "claim_name": "claim",
    "claim_uid": "uid",
    "ref": "claim",
    "card": "device_uuid",
    "gpu": "device_uuid",
    "uuid": "device_uuid",
    "device_name": "device",
    "share_key": "share",
    "key": "share",
    "pool_name": "pool",
    "slice_name": "slice",
    "node_name": "node",
    "exception": "error",
    "err": "error",
    "file": "path",
    "seconds": "retry_seconds",
}


def lines() -> Iterator[tuple[str, ast.Call]]:
    """Every line that the program can log, with its place."""
    for folder in ("dra_driver", "drivers"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                    target = node.func.value
                    if isinstance(target, ast.Name) and target.id == "log":
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", node


LINES = dict(lines())


def keys(call: ast.Call) -> set[str]:
    return {keyword.arg for keyword in call.keywords if keyword.arg}


def test_there_are_lines_to_look_at() -> None:
    assert len(LINES) > 20


@pytest.mark.parametrize("place", LINES)
def test_a_line_is_an_event_with_the_usual_keys(place: str) -> None:
    call = LINES[place]
    (event,) = call.args
    if isinstance(event, ast.Constant):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", str(event.value)), "an event is a name"
    assert not {key: OTHER_WORDS[key] for key in keys(call) & OTHER_WORDS.keys()}
    if "uid" in keys(call):
        assert "claim" in keys(call), "people know a claim by its name"
