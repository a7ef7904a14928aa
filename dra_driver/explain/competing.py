"""What to ask less of when each request of a claim could be had, but not all of them on one node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from dra_driver.explain.admission import Placing
from dra_driver.explain.amounts import most_allowed
from dra_driver.explain.counting import placed
from dra_driver.explain.deciding import outcomes
from dra_driver.explain.objects import Claim, Number, Request
from dra_driver.explain.state import CardId, State, Taken


@dataclass(frozen=True)
class Less:
    """Amounts that a request could have of a card beside the claim's other requests."""

    request: str
    card: CardId
    amounts: Mapping[str, Number]


def lesser(near: State, claim: Claim, pod: Placing | None) -> Iterator[Less]:
    """For each plain request, what the node with these facts has left for it once the others are placed."""
    for request in claim.spec.devices.requests:
        if request.exactly is None or not request.exactly.capacity.requests:
            continue
        others = _without(claim, request)
        for outcome in outcomes(near, (others,), pod=pod):
            if outcome.grants is None:
                continue
            beside = replace(near, claims=(*near.claims, placed(others, outcome.grants[0], 0)))
            yield from _left(beside, request)


def _without(claim: Claim, request: Request) -> Claim:
    left = tuple(one for one in claim.spec.devices.requests if one is not request)
    devices = claim.spec.devices.model_copy(update={"requests": left})
    return claim.model_copy(update={"spec": claim.spec.model_copy(update={"devices": devices})})


def _left(beside: State, request: Request) -> Iterator[Less]:
    """The cards of the node, with the most that each has left of what the request asks for."""
    assert request.exactly is not None
    taken = Taken.by(beside.claims)
    for one in beside.slices:
        for device in one.spec.devices:
            card = one.spec.driver, one.spec.pool.name, device.name
            held = taken.consumed.get(card, {})
            amounts: dict[str, Number] = {}
            for name, asked in request.exactly.capacity.requests.items():
                capacity = device.capacity.get(name)
                most = most_allowed(min(asked, capacity.value - held.get(name, 0)), capacity) if capacity else None
                if most:
                    amounts[name] = most
            if len(amounts) == len(request.exactly.capacity.requests):
                yield Less(request.name, card, amounts)
