"""What would let a waiting claim in: changes that were tried, and of which the same search says that they fit.

Nothing is suggested that was not re-run on the changed claim or the changed cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain

from dra_driver.explain.admission import Placing
from dra_driver.explain.amounts import most_allowed, write
from dra_driver.explain.competing import lesser
from dra_driver.explain.deciding import fits
from dra_driver.explain.explanation import Explanation, Verdict, Verdicted
from dra_driver.explain.ground import Ground, WholeState
from dra_driver.explain.objects import Ask, CapacityRequirements, Claim, Device, Number, Request, Toleration
from dra_driver.explain.reasons import Code
from dra_driver.explain.state import CardId, State, Taken

_ROOM = frozenset({Code.CAPACITY_SHORT, Code.SHARES_USED_UP, Code.IN_USE})
_TAINTED = frozenset({Code.TAINTED})
_SMALLER = frozenset({Code.CAPACITY_SHORT, Code.CAPACITY_TOO_SMALL, Code.CAPACITY_NOT_ALLOWED})
# Each try is a search.
_CARDS = 4
_RELEASES = 12


class Change(StrEnum):
    """What is to be changed."""

    SHRINK = "Shrink"
    RELEASE = "Release"
    TOLERATE = "Tolerate"
    FEWER_CARDS = "FewerCards"
    DROP_SELECTOR = "DropSelector"
    DROP_CONSTRAINT = "DropConstraint"


@dataclass(frozen=True)
class Held:
    """What one claim holds of a card; `amounts` is empty for a whole card."""

    claim: str
    amounts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Suggestion:
    """A change after which the claim fits.

    `parameters` are those of the change: new amounts, a taint, a count, an expression. `releases` names claims of
    others: show those only to who may list them.
    """

    change: Change
    request: str = ""
    node: str = ""
    card: CardId | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    releases: tuple[Held, ...] = ()


def suggest(state: State, claim: Claim, explanation: Explanation, pod: Placing | None = None) -> tuple[Suggestion, ...]:
    """All kinds of changes that work, at most one of each kind; none where the claim fits or nobody can tell."""
    steps = suggest_on(WholeState(state, explanation, pod), claim, explanation)
    return tuple(one for one in steps if one is not None)


def suggest_on(ground: Ground, claim: Claim, explanation: Explanation) -> Iterator[Suggestion | None]:
    """The same on any ground, one kind a step. Changes that concern one node are tried on that node alone."""
    if explanation.verdict is not Verdict.DOES_NOT_FIT:
        return
    kinds: tuple[Iterable[Suggestion], ...] = (
        chain(_shrinks(ground, claim), _together(ground, claim, explanation)),
        _releases(ground, claim),
        _tolerations(ground, claim),
        _fewer(ground, claim, explanation),
        _selectors(ground, claim),
        _constraints(ground, claim),
    )
    yield from (next(iter(kind), None) for kind in kinds)


def held_on(state: State, card: CardId) -> tuple[Held, ...]:
    """Who holds what of a card."""
    return tuple(
        Held(claim.path, {name: write(amount) for name, amount in (result.consumed_capacity or {}).items()})
        for claim in state.claims
        for result in claim.results
        if result.card == card and not result.admin_access
    )


def _shrinks(ground: Ground, claim: Claim) -> Iterator[Suggestion]:
    for one in ground.refused(_SMALLER, _CARDS):
        near = ground.near(one.node)
        taken = Taken.by(each for each in near.claims if each.path != claim.path)
        device = _device(near, one.card)
        smaller: dict[str, Number] = {}
        for reason in one.reasons:
            name = str(reason.parameters["capacity"])
            capacity = device.capacity[name]
            most = most_allowed(capacity.value - taken.consumed.get(one.card, {}).get(name, 0), capacity)
            if most is not None:
                smaller[name] = most
        if len(smaller) == len(one.reasons):
            yield from _smaller(ground, claim, one.request, one.node, one.card, smaller)


def _smaller(
    ground: Ground, claim: Claim, request: str, node: str, card: CardId, amounts: Mapping[str, Number]
) -> Iterator[Suggestion]:
    changed = _with_ask(claim, request, capacity=_requirements(claim, request, amounts))
    if fits(ground.near(node), (changed,), pod=ground.pod):
        yield Suggestion(Change.SHRINK, request, node, card, {name: write(amount) for name, amount in amounts.items()})


def _together(ground: Ground, claim: Claim, explanation: Explanation) -> Iterator[Suggestion]:
    """Where only the requests together are too much: one of them takes what the others leave."""
    if all(reason.code is not Code.REQUESTS_COMPETE for reason in explanation.reasons):
        return
    for node in ground.promising(_CARDS):
        for less in lesser(ground.near(node), claim, ground.pod):
            yield from _smaller(ground, claim, less.request, node, less.card, less.amounts)


def _releases(ground: Ground, claim: Claim) -> Iterator[Suggestion]:
    """The smallest single claim whose end suffices; else all claims of one card."""
    cards = ground.refused(_ROOM, _CARDS)
    holders = [(one, held) for one in cards for held in _holders(ground.near(one.node), claim, one)]
    for one, held in holders[:_RELEASES]:
        if fits(ground.near(one.node).without(held.claim), (claim,), pod=ground.pod):
            yield Suggestion(Change.RELEASE, one.request, one.node, one.card, {}, (held,))
    for one in cards:
        near = ground.near(one.node)
        all_held = _holders(near, claim, one)
        without = near.without(*(held.claim for held in all_held))
        if len(all_held) > 1 and fits(without, (claim,), pod=ground.pod):
            yield Suggestion(Change.RELEASE, one.request, one.node, one.card, {}, all_held)


def _holders(state: State, claim: Claim, one: Verdicted) -> tuple[Held, ...]:
    sizes = {
        each.path: sum(sum((result.consumed_capacity or {}).values()) for result in each.results)
        for each in state.claims
    }
    return tuple(
        sorted(
            (held for held in held_on(state, one.card) if held.claim != claim.path),
            key=lambda held: (sizes[held.claim], held.claim),
        )
    )


def _tolerations(ground: Ground, claim: Claim) -> Iterator[Suggestion]:
    for one in ground.refused(_TAINTED, _CARDS):
        taint = str(one.reasons[0].parameters["taint"])
        everything = (Toleration(operator="Exists", key=str(one.reasons[0].parameters["key"])),)
        known = _ask_of(claim, one.request).tolerations
        changed = _with_ask(claim, one.request, tolerations=known + everything)
        if fits(ground.near(one.node), (changed,), pod=ground.pod):
            yield Suggestion(Change.TOLERATE, one.request, one.node, one.card, {"taint": taint})


def _fewer(ground: Ground, claim: Claim, explanation: Explanation) -> Iterator[Suggestion]:
    for reason in explanation.reasons:
        if reason.code is not Code.TOO_FEW_CARDS or not isinstance(reason.parameters["free"], int):
            continue
        request, count = str(reason.parameters["request"]), reason.parameters["free"]
        node = str(reason.parameters["node"])
        if count and fits(ground.near(node), (_with_ask(claim, request, count=count),), pod=ground.pod):
            yield Suggestion(Change.FEWER_CARDS, request, node, None, {"count": str(count)})


def _selectors(ground: Ground, claim: Claim) -> Iterator[Suggestion]:
    for request in claim.spec.devices.requests:
        for name, ask in _asks(request):
            for index, selector in enumerate(ask.selectors):
                left = ask.selectors[:index] + ask.selectors[index + 1 :]
                if selector.cel and ground.fits(_with_ask(claim, name, selectors=left)):
                    yield Suggestion(Change.DROP_SELECTOR, name, parameters={"expression": selector.cel.expression})


def _constraints(ground: Ground, claim: Claim) -> Iterator[Suggestion]:
    constraints = claim.spec.devices.constraints
    for index, constraint in enumerate(constraints):
        left = constraints[:index] + constraints[index + 1 :]
        if ground.fits(_with_devices(claim, constraints=left)):
            kind = "matchAttribute" if constraint.match_attribute else "distinctAttribute"
            name = constraint.match_attribute or constraint.distinct_attribute or ""
            yield Suggestion(Change.DROP_CONSTRAINT, parameters={"constraint": f"{kind} {name}"})


def _asks(request: Request) -> Iterator[tuple[str, Ask]]:
    if request.exactly is not None:
        yield request.name, request.exactly
    for ask in request.first_available:
        yield f"{request.name}/{ask.name}", ask


def _ask_of(claim: Claim, name: str) -> Ask:
    asks = (ask for request in claim.spec.devices.requests for ask in _asks(request))
    return next(ask for called, ask in asks if called == name)


def _requirements(claim: Claim, name: str, amounts: Mapping[str, Number]) -> CapacityRequirements:
    capacity = _ask_of(claim, name).capacity
    return capacity.model_copy(update={"requests": {**capacity.requests, **amounts}})


def _with_ask(claim: Claim, name: str, **changes: object) -> Claim:
    """The claim with one request, or one alternative, changed."""
    requests = []
    for request in claim.spec.devices.requests:
        if request.exactly is not None and request.name == name:
            request = request.model_copy(update={"exactly": request.exactly.model_copy(update=changes)})
        alternatives = tuple(
            ask.model_copy(update=changes) if f"{request.name}/{ask.name}" == name else ask
            for ask in request.first_available
        )
        requests.append(request.model_copy(update={"first_available": alternatives}))
    return _with_devices(claim, requests=tuple(requests))


def _with_devices(claim: Claim, **changes: object) -> Claim:
    devices = claim.spec.devices.model_copy(update=changes)
    return claim.model_copy(update={"spec": claim.spec.model_copy(update={"devices": devices})})


def _device(state: State, card: CardId) -> Device:
    driver, pool, name = card
    members = state.pools.members[driver, pool]
    latest = max(one.spec.pool.generation for one in members)
    current = (one for one in members if one.spec.pool.generation == latest)
    return next(device for one in current for device in one.spec.devices if device.name == name)
