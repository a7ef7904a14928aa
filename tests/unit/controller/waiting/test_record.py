"""The record on the claim: what is news, what it holds, and how long it may be."""

from __future__ import annotations

import json

import pytest

from dra_driver.controller.waiting.news import PodNews
from dra_driver.controller.waiting.notes import note
from dra_driver.controller.waiting.record import Cause, Record, does_not_fit, read_record
from dra_driver.explain.admission import Placing
from dra_driver.explain.explanation import explain
from dra_driver.explain.reasons import Code
from dra_driver.explain.state import parse_claim
from dra_driver.explain.suggesting import suggest
from tests.unit.explain.cases import CASES
from tests.unit.explain.situations import Wire, card, exactly, holding, pool, state, waiting

POD = PodNews("team-a", "train", "uid", Placing(), frozenset({"train"}))


def record_of(claim: Wire, *objects: Wire) -> Record:
    """The record that the claim would get."""
    known, parsed = state(*objects), parse_claim(claim)
    explained = explain(known, parsed)
    return does_not_fit(explained, suggest(known, parsed, explained), POD)


@pytest.mark.parametrize("code", sorted(set(CASES) - {Code.SEARCH_TOO_LONG}))
def test_a_record_is_read_back_as_it_was_and_its_note_fits_an_event(code: Code) -> None:
    claim, objects = CASES[code]
    record = record_of(claim, *objects)
    assert record.code == code
    assert read_record(record.text()) == record
    assert 0 < len(note(record).encode()) <= 1024


def test_figures_do_not_change_the_meaning_and_another_capacity_does() -> None:
    claim = waiting(exactly(capacity={"memory": "8Gi", "cores": "50"}))
    full = pool("node-a", card("gpu-0"))
    one = record_of(claim, full, holding("team-b/one", "gpu-0", memory="12Gi"))
    more = record_of(claim, full, holding("team-b/one", "gpu-0", memory="14Gi"))
    cores = record_of(claim, full, holding("team-b/one", "gpu-0", memory="1Gi", cores="80"))
    assert one.meaning == more.meaning
    assert one.meaning != cores.meaning


def test_a_long_record_gives_up_what_is_needed_least_and_keeps_its_reasons() -> None:
    claim = waiting(*(exactly(f'"{letter * 900}" == "x"', capacity={"memory": "1Gi"}) for letter in "abcd"))
    record = record_of(claim, pool("node-a", card("gpu-0")))
    text = record.text()
    assert len(text.encode()) <= 6 * 1024
    kept = json.loads(text)
    assert [reason["code"] for reason in kept["reasons"]] == ["RequestSelector"] * len(kept["reasons"])


def test_what_is_nothing_of_ours_is_no_record() -> None:
    assert read_record(None) is None
    assert read_record("no JSON") is None
    assert read_record(Record(kind="Other", verdict="Fits", reasons=(Cause(code="X"),)).text()) is None
