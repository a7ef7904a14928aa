"""The cluster's cards with what is allocated of them, and the claims that have it: figures from the API alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dra_driver.explain.amounts import write
from dra_driver.explain.objects import AllocatedDevice, Number
from dra_driver.explain.pools import gather
from dra_driver.explain.state import CardId, State, Taken
from dra_driver.explain.suggesting import Held, held_on
from dra_driver.explain.wording import amounts_text


@dataclass(frozen=True)
class Use:
    """Of one capacity: allocated and there."""

    used: Number
    total: Number


@dataclass(frozen=True)
class CardRow:
    """One card: its capacities by name, its taints, and who has what of it."""

    node: str
    id: CardId
    model: str
    uses: Mapping[str, Use]
    whole: bool
    taints: tuple[str, ...]
    holders: tuple[Held, ...]


@dataclass(frozen=True)
class NodeRow:
    """The sums of a node's cards."""

    node: str
    cards: int
    tainted: int
    uses: Mapping[str, Use] = field(default_factory=dict)


def card_rows(state: State, driver: str) -> tuple[CardRow, ...]:
    """The cards of a driver, by node and in the allocator's order; a card that many nodes reach is shown once."""
    taken = Taken.by(state.claims)
    rows: dict[CardId, CardRow] = {}
    for node in state.places():
        for pool in gather(state, node, taken):
            for card in pool.cards if pool.driver == driver else ():
                if card.id in rows or not card.here:
                    continue
                whole = card.id in taken.devices
                held = taken.consumed.get(card.id, {})
                uses = {
                    name: Use(capacity.value if whole else held.get(name, 0), capacity.value)
                    for name, capacity in sorted(card.device.capacity.items())
                }
                model = card.device.attributes.get("model") or card.device.attributes.get(f"{driver}/model")
                taints = tuple(f"{taint.key}:{taint.effect}" for taint in card.taints)
                rows[card.id] = CardRow(
                    *(node.metadata.name, card.id, (model.string if model else "") or "", uses, whole, taints),
                    held_on(state, card.id),
                )
    return tuple(rows.values())


def node_rows(rows: Iterable[CardRow]) -> tuple[NodeRow, ...]:
    """Add up by node."""
    by_node: dict[str, list[CardRow]] = {}
    for row in rows:
        by_node.setdefault(row.node, []).append(row)
    return tuple(
        NodeRow(node, len(cards), sum(bool(card.taints) for card in cards), _sums(cards))
        for node, cards in sorted(by_node.items())
    )


def _sums(cards: Iterable[CardRow]) -> dict[str, Use]:
    sums: dict[str, Use] = {}
    for card in cards:
        for name, use in card.uses.items():
            before = sums.get(name, Use(0, 0))
            sums[name] = Use(before.used + use.used, before.total + use.total)
    return sums


def result_text(result: AllocatedDevice) -> str:
    """`memory 4Gi, …` or `whole card`."""
    return "whole card" if result.consumed_capacity is None else amounts_text(result.consumed_capacity)


def uses_wire(uses: Mapping[str, Use]) -> dict[str, dict[str, str]]:
    """Plain values."""
    return {name: {"used": write(use.used), "total": write(use.total)} for name, use in uses.items()}
