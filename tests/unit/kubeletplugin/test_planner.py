"""A plan that was made beforehand is used only for the claim and the cards that it was made for."""

from __future__ import annotations

import pytest

from dra_driver.errors import ObjectRejected
from dra_driver.kube.claims import Claim, parse_claim
from dra_driver.kubeletplugin.plan import Card
from dra_driver.kubeletplugin.planner import Planner
from tests.support.backend import card
from tests.support.claims import DRIVER, POOL, allocated, share

GIB = 1 << 30


def claim(name: str = "train", *, memory: str = "8Gi") -> Claim:
    return parse_claim(allocated(name, share("gpu", "gpu-0", memory=memory)))


class Cards:
    """The cards of a node, which may change."""

    def __init__(self) -> None:
        self.now = {(POOL, "gpu-0"): Card(POOL, card(0))}
        self.planner = Planner(driver=DRIVER, cards=lambda: self.now)


@pytest.fixture
def cards() -> Cards:
    return Cards()


def test_a_claim_that_was_seen_is_planned_already(cards: Cards) -> None:
    seen = claim()
    cards.planner.foresee(seen)
    first = cards.planner.plan(seen)
    assert cards.planner.plan(seen) is first
    assert first == Cards().planner.plan(claim())


def test_a_claim_that_has_changed_since_is_planned_anew(cards: Cards) -> None:
    cards.planner.foresee(claim(memory="8Gi"))
    assert cards.planner.plan(claim(memory="4Gi")).shares[0].share.memory == 4 * GIB


def test_cards_that_have_changed_since_are_planned_on_anew(cards: Cards) -> None:
    seen = claim()
    cards.planner.foresee(seen)
    cards.now = {}
    with pytest.raises(ObjectRejected, match="gpu-0 is not on this node"):
        cards.planner.plan(seen)


def test_a_claim_that_cannot_be_planned_is_refused_when_it_is_asked_for(cards: Cards) -> None:
    seen = parse_claim(allocated("train", share("gpu", "gpu-7")))
    cards.planner.foresee(seen)
    with pytest.raises(ObjectRejected, match="gpu-7 is not on this node"):
        cards.planner.plan(seen)


def test_claims_that_never_come_are_forgotten(cards: Cards) -> None:
    first = claim("first")
    cards.planner.foresee(first)
    foreseen = cards.planner.plan(first)
    for number in range(100):
        cards.planner.foresee(claim(f"claim-{number}"))
    assert cards.planner.plan(first) is not foreseen
    assert cards.planner.plan(first) == foreseen
