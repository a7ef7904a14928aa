"""Claims by the cards that they hold part of."""

from __future__ import annotations

from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim
from dra_driver.kubeletplugin.holders import holders_after, holders_of, on_cards
from tests.unit.kubeletplugin.test_checkpoint import claim


def on(name: str, *cards: str) -> PreparedClaim:
    whole = claim(name)
    shares = tuple(whole.shares[0].model_copy(update={"device_uuid": card}) for card in cards)
    return whole.model_copy(update={"shares": shares})


def test_a_claim_is_with_each_of_its_cards_and_listed_once() -> None:
    pair, single = on("pair", "A", "B", "B"), on("single", "B")
    holders = holders_of([pair, single])
    assert (on_cards(holders, {"A"}), on_cards(holders, {"B"})) == ((pair,), (pair, single))
    assert on_cards(holders, {"A", "B"}) == (pair, single) or on_cards(holders, {"A", "B"}) == (single, pair)
    assert on_cards(holders, {"C"}) == ()


def test_changes_one_by_one_lead_to_the_same_as_all_at_once() -> None:
    steps = [
        (None, on("a", "A")),
        (None, on("b", "A", "B")),
        (on("a", "A"), on("a", "C")),
        (on("b", "A", "B"), on("b", "B")),
        (on("a", "C"), None),
        (None, on("c", "B")),
    ]
    holders = holders_of(())
    for before, after in steps:
        holders = holders_after(holders, before, after)
    wanted = holders_of([on("b", "B"), on("c", "B")])
    assert {card: listed for card, listed in holders.items() if listed} == wanted
