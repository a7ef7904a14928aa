"""What is suggested works: each change is made to the question, and the scheduler's own allocator then says yes."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dra_driver.explain.explanation import Explanation, Verdict, explain
from dra_driver.explain.reasons import Code
from dra_driver.explain.state import parse_claim, parse_state
from dra_driver.explain.suggesting import Change, Suggestion, suggest
from dra_driver.explain.wording import text, wire
from tests.unit.explain.allocator import ask
from tests.unit.explain.questions import Questions
from tests.unit.explain.situations import Wire, card, exactly, holding, pool, state, waiting

QUESTIONS = 900
SEED = 7

Explained = list[tuple[Wire, Explanation, tuple[Suggestion, ...]]]


@pytest.fixture(scope="module")
def explained() -> Explained:
    """Random questions with one claim each, explained."""
    questions = Questions(SEED)
    found = []
    for question in (questions.one() for _ in range(QUESTIONS)):
        question["wanted"] = question["wanted"][:1]
        claim = parse_claim(question["wanted"][0])
        known = parse_state([*question["slices"], *question["classes"], *question["allocated"], question["node"]])
        told = explain(known, claim)
        found.append((question, told, suggest(known, claim, told)))
    return found


def test_every_suggestion_lets_the_allocator_say_yes(explained: Explained) -> None:
    changed = [(one, _changed(question, one)) for question, _, ways in explained for one in ways]
    answers = list(ask([question for _, question in changed]))
    wrong = [(one, answer) for (one, _), answer in zip(changed, answers, strict=True) if not answer["fits"]]
    assert not wrong, wrong[0]
    kinds = Counter(one.change for one, _ in changed)
    assert all(kinds[change] >= 3 for change in Change), kinds


def test_a_claim_that_fits_or_cannot_be_judged_gets_no_suggestions(explained: Explained) -> None:
    assert not any(ways for _, told, ways in explained if told.verdict is not Verdict.DOES_NOT_FIT)


def test_every_funnel_adds_up(explained: Explained) -> None:
    funnels = [funnel for _, told, _ in explained for funnel in told.funnels]
    assert funnels
    assert all(one.looked_at == one.fitting + sum(number for _, number in one.refused) for one in funnels)


def test_every_claim_that_does_not_fit_has_a_reason(explained: Explained) -> None:
    assert all(told.reasons for _, told, _ in explained if told.verdict is not Verdict.FITS)
    assert not any(told.reasons for _, told, _ in explained if told.verdict is Verdict.FITS)


def test_the_nearest_card_is_one_card_with_all_that_it_lacks() -> None:
    known = state(
        pool("node-a", card("gpu-0"), card("gpu-1")),
        holding("team-b/one", "gpu-0", memory="12Gi"),
        holding("team-b/two", "gpu-1", memory="15Gi", cores="90"),
    )
    told = explain(known, parse_claim(waiting(exactly(capacity={"memory": "8Gi", "cores": "50"}))))
    assert told.nearest is not None
    assert told.nearest.card[2] == "gpu-0"
    assert [reason.parameters["capacity"] for reason in told.nearest.reasons] == ["memory"]


def test_what_a_tenant_reads_names_no_other_tenants_claims() -> None:
    known = state(
        pool("node-a", card("gpu-0")),
        holding("team-b/secret", "gpu-0", memory="8Gi"),
        holding("team-c/private", "gpu-0", memory="8Gi"),
    )
    claim = parse_claim(waiting(exactly(capacity={"memory": "16Gi"})))
    told = explain(known, claim)
    ways = suggest(known, claim, told)
    (release,) = [one for one in ways if one.change is Change.RELEASE]
    assert len(release.releases) == 2
    assert "team-b/secret" in text(told, ways)
    tenants = text(told, ways, names=False) + str(wire(told, ways, names=False))
    assert "2 other shares" in tenants
    assert not any(name in tenants for name in ("secret", "private", "team-b", "team-c"))


def test_a_claim_of_its_own_does_not_stand_in_its_way() -> None:
    known = state(pool("node-a", card("gpu-0")), holding("team-a/train", "gpu-0", memory="16Gi"))
    told = explain(known, parse_claim(waiting(exactly(capacity={"memory": "16Gi"}))))
    assert told.verdict is Verdict.FITS


def test_a_search_with_too_many_ways_is_still_a_no_where_one_request_has_no_card() -> None:
    cards = [card(f"gpu-{number}", memory="8Gi") for number in range(8)]
    crowd = [exactly(capacity={"memory": "1Mi"}, count=4) for _ in range(6)]
    claim = waiting(*crowd, exactly(capacity={"memory": "17Gi"}))
    told = explain(state(pool("node-a", *cards)), parse_claim(claim))
    assert told.verdict is Verdict.DOES_NOT_FIT
    assert [reason.code for reason in told.reasons] == [Code.CAPACITY_TOO_SMALL]


def test_rules_taint_cards_as_slices_do() -> None:
    rule = {
        "kind": "DeviceTaintRule",
        "metadata": {"name": "worn"},
        "spec": {"deviceSelector": {"device": "gpu-0"}, "taint": {"key": "worn", "effect": "NoSchedule"}},
    }
    known = state(pool("node-a", card("gpu-0"), card("gpu-1")), rule)
    told = explain(known, parse_claim(waiting(exactly(capacity={"memory": "1Gi"}, count=2))))
    assert dict(told.funnels[0].refused) == {Code.TAINTED: 1}


def _changed(question: Wire, one: Suggestion) -> Wire:
    """The question with the suggested change made to its objects."""
    changed = copy.deepcopy(question)
    released = {held.claim for held in one.releases}
    changed["allocated"] = [
        wire
        for wire in changed["allocated"]
        if f"{wire['metadata']['namespace']}/{wire['metadata']['name']}" not in released
    ]
    devices = changed["wanted"][0]["spec"]["devices"]
    if one.change is Change.DROP_CONSTRAINT:
        kind, _, name = one.parameters["constraint"].partition(" ")
        devices["constraints"].remove(next(each for each in devices["constraints"] if each.get(kind) == name))
    elif one.change is not Change.RELEASE:
        _EDITS[one.change](_ask(devices, one.request), one)
    return changed


def _ask(devices: Wire, name: str) -> Wire:
    request, _, alternative = name.partition("/")
    found = next(each for each in devices["requests"] if each["name"] == request)
    if not alternative:
        exact: Wire = found["exactly"]
        return exact
    return next(each for each in found["firstAvailable"] if each["name"] == alternative)


def _shrink(wire: Wire, one: Suggestion) -> None:
    wire.setdefault("capacity", {"requests": {}})["requests"].update(one.parameters)


def _tolerate(wire: Wire, one: Suggestion) -> None:
    key = one.parameters["taint"].rpartition(":")[0].partition("=")[0]
    wire["tolerations"] = [*wire.get("tolerations", ()), {"key": key, "operator": "Exists"}]


def _fewer(wire: Wire, one: Suggestion) -> None:
    wire["count"] = int(one.parameters["count"])


def _drop_selector(wire: Wire, one: Suggestion) -> None:
    wire["selectors"] = [
        each for each in wire["selectors"] if each["cel"]["expression"] != one.parameters["expression"]
    ]


_EDITS: dict[Change, Callable[[Any, Suggestion], None]] = {
    Change.SHRINK: _shrink,
    Change.TOLERATE: _tolerate,
    Change.FEWER_CARDS: _fewer,
    Change.DROP_SELECTOR: _drop_selector,
}
