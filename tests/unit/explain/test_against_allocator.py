"""Our arithmetic against the scheduler's own allocator, on thousands of random questions: same answer, or "unknown".

The judge is tests/cluster/tools/allocator, a program on k8s.io/dynamic-resource-allocation/structured.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dra_driver.explain.pools import gather
from dra_driver.explain.searching import Refused, Undecided, search
from dra_driver.explain.state import Taken, parse_claim, parse_state
from dra_driver.kube.quantities import exact
from tests.unit.explain.allocator import ask
from tests.unit.explain.questions import Questions

QUESTIONS = 6000
SEED = 20261124

Answer = tuple[str, Any]


@pytest.fixture(scope="module")
def compared() -> list[tuple[dict[str, Any], Answer, Answer]]:
    """Each question with our answer and the allocator's."""
    questions = Questions(SEED)
    asked = [questions.one() for _ in range(QUESTIONS)]
    return [(question, ours(question), theirs(answer)) for question, answer in zip(asked, ask(asked), strict=True)]


def test_every_answer_is_the_allocators_down_to_the_card_and_the_amounts(
    compared: list[tuple[dict[str, Any], Answer, Answer]],
) -> None:
    different = [entry for entry in compared if entry[1][0] != "unknown" and entry[1] != entry[2]]
    assert not different, f"{len(different)} of {QUESTIONS} differ; the first: {different[0]}"


def test_less_than_one_answer_in_a_hundred_is_unknown(compared: list[tuple[dict[str, Any], Answer, Answer]]) -> None:
    unknown = sum(mine[0] == "unknown" for _, mine, _ in compared)
    assert 0 < unknown < QUESTIONS / 100


def test_the_questions_have_enough_of_every_answer_to_prove_something(
    compared: list[tuple[dict[str, Any], Answer, Answer]],
) -> None:
    answers = Counter(judged[0] for _, _, judged in compared)
    assert answers["fits"] > QUESTIONS / 8, answers
    assert answers["does not fit"] > QUESTIONS / 8, answers
    assert answers["error"] > QUESTIONS / 50, answers


def ours(question: dict[str, Any]) -> Answer:
    """What we say of the question's node."""
    objects = [*question["slices"], *question["classes"], *question["allocated"], question["node"]]
    state = parse_state(objects)
    taken = Taken.by(state.claims)
    claims = [parse_claim(wire) for wire in question["wanted"]]
    try:
        found = search(gather(state, state.nodes[0], taken), taken, claims, state.classes)
    except Undecided:
        return "unknown", None
    except Refused:
        return "error", None
    if found is None:
        return "does not fit", None
    return "fits", [
        [(grant.request, *grant.card, None if grant.consumed is None else dict(grant.consumed)) for grant in grants]
        for grants in found
    ]


def theirs(answer: dict[str, Any]) -> Answer:
    """The same of the allocator's answer; an invalid pool refuses its node alone, every other error the claim."""
    if answer.get("error", "").startswith("invalid resource pools were encountered"):
        return "does not fit", None
    if answer.get("error"):
        return "error", None
    if not answer["fits"]:
        return "does not fit", None
    return "fits", [[_result(result) for result in results] for results in answer["results"]]


def _result(result: dict[str, Any]) -> tuple[Any, ...]:
    consumed = result.get("consumedCapacity")
    amounts = None if consumed is None else {name: exact(amount) for name, amount in consumed.items()}
    return result["request"], result["driver"], result["pool"], result["device"], amounts
