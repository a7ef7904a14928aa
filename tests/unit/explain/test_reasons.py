"""Each reason has one case that shows it, an explanation that reads well, and a line in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dra_driver.explain.explanation import Verdict
from dra_driver.explain.reasons import MEANINGS, Code, page
from tests.unit.explain.allocator import ask
from tests.unit.explain.cases import CASES
from tests.unit.explain.golden import FOLDER, written
from tests.unit.explain.situations import Wire, device_class, told

ROOT = Path(__file__).resolve().parents[3]
UNKNOWN = {Code.SELECTOR_UNKNOWN, Code.REQUEST_NOT_SUPPORTED, Code.SEARCH_TOO_LONG}


def test_every_code_has_a_meaning_and_a_case() -> None:
    assert set(MEANINGS) == set(CASES) == set(Code)


@pytest.mark.parametrize("code", CASES)
def test_the_case_waits_for_exactly_that_reason(code: Code) -> None:
    claim, objects = CASES[code]
    explained = told(claim, *objects)
    assert [reason.code for reason in explained.reasons] == [code]
    assert explained.verdict is (Verdict.UNKNOWN if code in UNKNOWN else Verdict.DOES_NOT_FIT)


@pytest.mark.parametrize("code", CASES)
def test_the_words_are_those_of_the_golden_file(code: Code) -> None:
    assert written(code) == (FOLDER / f"{code}.txt").read_text()


def test_the_scheduler_refuses_every_case_too() -> None:
    questions = []
    for code in set(CASES) - UNKNOWN - {Code.SELECTOR_ERROR, Code.NODE_EXCLUDED}:
        claim, objects = CASES[code]
        known: Wire = {"slices": [], "classes": [device_class()], "allocated": [], "wanted": [_defaulted(claim)]}
        for wire in objects:
            place = {"ResourceSlice": "slices", "DeviceClass": "classes", "ResourceClaim": "allocated"}
            known.get(place.get(wire["kind"], ""), []).append(wire)
        questions += [{**known, "node": {"metadata": {"name": name}}} for name in ("node-a", "node-b")]
    answers = list(ask(questions))
    assert len(answers) == len(questions)
    assert not any(answer["fits"] for answer in answers)


def test_words_name_all_their_parameters() -> None:
    for code, (claim, objects) in CASES.items():
        (reason,) = told(claim, *objects).reasons
        wanted = set(re.findall(r"{(\w+)}", MEANINGS[code].words))
        assert wanted <= set(reason.parameters), code


def test_the_documentation_lists_the_reasons_as_they_are() -> None:
    assert (ROOT / "docs/reasons.md").read_text() == page(), "python -m dra_driver.explain.reasons > docs/reasons.md"


def _defaulted(claim: Wire) -> Wire:
    """What the API server adds to a request."""
    requests = [
        {**request, "exactly": {"allocationMode": "ExactCount", "count": 1, **request["exactly"]}}
        for request in claim["spec"]["devices"]["requests"]
    ]
    return {**claim, "spec": {"devices": {**claim["spec"]["devices"], "requests": requests}}}
