"""Cards that are equal in what a selector reads share its answer, and no others do."""

from __future__ import annotations

import pytest

from dra_driver.explain import selectors
from dra_driver.explain.objects import Device
from dra_driver.explain.pools import Card
from dra_driver.explain.reading import names_read, seen
from dra_driver.explain.selectors import judge
from tests.unit.explain.questions import DRIVER, SELECTORS, Questions
from tests.unit.explain.situations import card

OURS = f'device.attributes["{DRIVER}"]'
COMPUTED = (
    f'{OURS}["mo" + "del"] == "A100"',
    f"{OURS}[{OURS}.vendor] == 1",
    f"{OURS}.vendor in {OURS}",
    f'{OURS} == device.attributes["example.com"]',
    f'"mo\\tdel" in {OURS}',
)


def cards(number: int) -> list[Card]:
    """Random cards."""
    questions = Questions(3)
    devices = [questions._device(str(index)) for index in range(number)]
    return [Card(DRIVER, "pool", Device.model_validate(device), ()) for device in devices]


@pytest.mark.parametrize("expression", SELECTORS)
def test_a_shared_answer_is_the_one_that_the_card_alone_would_get(expression: str) -> None:
    selectors._ANSWERS.clear()
    shared = [judge(expression, one) for one in cards(60)]
    alone = []
    for one in cards(60):
        selectors._ANSWERS.clear()
        alone.append(judge(expression, one))
    assert shared == alone


def test_cards_that_differ_in_other_attributes_are_judged_once() -> None:
    selectors._ANSWERS.clear()
    same = [Card(DRIVER, "pool", Device.model_validate(card(f"gpu-{number}")), ()) for number in range(8)]
    for one in same:
        judge(f'{OURS}.model == "A100"', one)
    assert len(selectors._ANSWERS) == 1


@pytest.mark.parametrize("expression", COMPUTED)
def test_where_a_name_is_computed_all_of_the_card_is_read(expression: str) -> None:
    tokens = selectors._tokens(expression)
    assert tokens is not None
    assert names_read(tokens) is None
    one, other = (Card(DRIVER, "pool", Device.model_validate(card(name)), ()) for name in ("gpu-0", "gpu-1"))
    assert seen(one, None) != seen(other, None)


@pytest.mark.parametrize("expression", SELECTORS)
def test_what_a_usual_selector_reads_is_known(expression: str) -> None:
    tokens = selectors._tokens(expression)
    assert tokens is not None
    names = names_read(tokens)
    assert ("+" in tokens) == (names is None)
