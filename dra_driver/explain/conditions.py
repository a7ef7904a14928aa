"""What each of a claim's own conditions would match alone: the one that matches little is the one to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dra_driver.explain.amounts import NotRepresentable, breaks_policy, consumed, write
from dra_driver.explain.judging import Wanted, attribute_of, blocking_taint, concerns
from dra_driver.explain.objects import Constraint, Number, Selector
from dra_driver.explain.pools import Card
from dra_driver.explain.selectors import Answer, judge
from dra_driver.explain.state import Taken


@dataclass(frozen=True)
class Condition:
    """One condition of one request, and how many cards meet it when nothing else is asked.

    `unknown` counts cards of which nobody can tell outside Kubernetes.
    """

    request: str
    kind: str
    words: str
    matches: int
    unknown: int
    of: int


def conditions(
    cards: Sequence[Card], wanted: Sequence[Wanted], constraints: Sequence[Constraint], taken: Taken
) -> tuple[Condition, ...]:
    """All conditions of all requests, in the allocator's order."""
    return tuple(condition for each in wanted for condition in _of_request(cards, each, constraints, taken))


def _of_request(
    cards: Sequence[Card], each: Wanted, constraints: Sequence[Constraint], taken: Taken
) -> Iterator[Condition]:
    free = sum(card.id not in taken.devices for card in cards)
    yield Condition(each.name, "InUse", "not taken whole", free, 0, len(cards))
    for selector in each.device_class.spec.selectors:
        yield _selector(cards, each.name, f"class {each.device_class.metadata.name}", selector)
    for index, selector in enumerate(each.ask.selectors):
        yield _selector(cards, each.name, f"selector {index}", selector)
    for name, asked in each.ask.capacity.requests.items():
        enough = sum(_enough(card, name, asked, taken) for card in cards)
        yield Condition(each.name, "Capacity", f"{name} {write(asked)} free", enough, 0, len(cards))
    clean = sum(blocking_taint(each.ask, card) is None for card in cards)
    yield Condition(each.name, "Taints", "no taint in the way", clean, 0, len(cards))
    for constraint in constraints:
        name = constraint.match_attribute or constraint.distinct_attribute or ""
        if concerns(constraint, each.name):
            having = sum(attribute_of(card, name) is not None for card in cards)
            yield Condition(each.name, "Constraint", f"has {name}", having, 0, len(cards))


def _selector(cards: Sequence[Card], request: str, name: str, selector: Selector) -> Condition:
    expression = selector.cel.expression if selector.cel else ""
    answers = [judge(expression, card).answer if selector.cel else Answer.UNKNOWN for card in cards]
    matches, unknown = answers.count(Answer.YES), answers.count(Answer.UNKNOWN)
    return Condition(request, "Selector", f"{name}: {expression}", matches, unknown, len(cards))


def _enough(card: Card, name: str, asked: Number, taken: Taken) -> bool:
    capacity = card.device.capacity.get(name)
    if capacity is None:
        return False
    try:
        takes = consumed(asked, capacity)
    except NotRepresentable:
        return False
    held = taken.consumed.get(card.id, {}).get(name, 0)
    return not breaks_policy(takes, capacity.request_policy) and held + takes <= capacity.value
