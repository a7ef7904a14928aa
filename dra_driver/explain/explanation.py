"""Why a claim waits, as facts: one pure function of the state and the claim.

The same answer serves the command line, events, conditions and metrics; each makes its own words of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from dra_driver.explain.admission import Placing
from dra_driver.explain.conditions import Condition, conditions
from dra_driver.explain.deciding import Outcome, outcomes
from dra_driver.explain.judging import Wanted, refusals
from dra_driver.explain.objects import Claim
from dra_driver.explain.pools import Card
from dra_driver.explain.reasons import Code, Reason
from dra_driver.explain.searching import Grant, Refused, constraint_reason, pool_reason, search, wanted_of
from dra_driver.explain.state import CardId, State, Taken

# What the owner of a claim can do least about weighs most when the nearest card is chosen: another kind of card, then
# another node, then a card that others have.
_FAR = {
    **dict.fromkeys((Code.CLASS_SELECTOR, Code.REQUEST_SELECTOR, Code.SELECTOR_ERROR, Code.SELECTOR_UNKNOWN), 3),
    **dict.fromkeys((Code.CAPACITY_MISSING, Code.ATTRIBUTE_MISSING), 3),
    Code.NODE_EXCLUDED: 2,
    **dict.fromkeys((Code.IN_USE, Code.TAINTED), 1),
}


class Verdict(StrEnum):
    """What would become of the claim now."""

    FITS = "Fits"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"
    ALLOCATED = "Allocated"


@dataclass(frozen=True)
class Placement:
    """What the claim would get on a node."""

    node: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True)
class Verdicted:
    """One card for one request: all reasons against it, the allocator's first one first; none: it would do."""

    request: str
    node: str
    card: CardId
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Funnel:
    """How the cards fall away for one request: `looked_at` is the sum of all `refused` and of `fitting`."""

    request: str
    looked_at: int
    refused: tuple[tuple[Code, int], ...]
    fitting: int


@dataclass(frozen=True)
class PoolOut:
    """A pool that gives no cards away."""

    node: str
    pool: str
    reason: Reason


@dataclass(frozen=True)
class Explanation:
    """All that was worked out. `reasons` concern the claim; `nearest` is one card's whole deficit."""

    claim: str
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    placements: tuple[Placement, ...] = ()
    funnels: tuple[Funnel, ...] = ()
    cards: tuple[Verdicted, ...] = ()
    pools: tuple[PoolOut, ...] = ()
    conditions: tuple[Condition, ...] = ()
    nearest: Verdicted | None = None


def explain(state: State, claim: Claim, pod: Placing | None = None) -> Explanation:
    """Work out what becomes of a claim, and why; `state` may hold the claim itself, `pod` is who waits for it."""
    if claim.status.allocation is not None:
        grants = tuple(Grant(one.request, one.card, one.consumed_capacity) for one in claim.results)
        return Explanation(claim.path, Verdict.ALLOCATED, placements=(Placement("", grants),))
    tried = tuple(outcomes(state, (claim,), pod=pod))
    placements = tuple(Placement(one.node.metadata.name, one.grants[0]) for one in tried if one.grants is not None)
    verdict = _verdict(tried, bool(placements))
    base = Explanation(claim.path, verdict, placements=placements if verdict is Verdict.FITS else ())
    try:
        wanted = tuple(one for alternatives in wanted_of(claim, state.classes) for one in alternatives)
    except Refused as refused:
        return replace(base, reasons=(refused.reason,), verdict=Verdict.UNKNOWN if _unknown(tried) else verdict)
    taken = Taken.by(one for one in state.claims if one.path != claim.path)
    cards = tuple(_judge(tried, wanted, claim, taken))
    base = replace(
        base,
        cards=cards,
        funnels=tuple(_funnel(one.name, cards) for one in wanted),
        pools=_pools_out(tried),
        conditions=conditions(_cards(tried), wanted, claim.spec.devices.constraints, taken),
        nearest=None if verdict is Verdict.FITS else _nearest(cards, wanted),
    )
    if verdict is Verdict.FITS:
        return base
    return replace(base, reasons=_reasons(state, claim, tried, wanted, base))


def _unknown(tried: Sequence[Outcome]) -> bool:
    return any(one.undecided for one in tried)


def _verdict(tried: Sequence[Outcome], placed: bool) -> Verdict:
    """A refusal that concerns the whole claim stops the scheduler on all nodes."""
    if any(one.stopped is not None and not one.undecided for one in tried):
        return Verdict.DOES_NOT_FIT
    if placed:
        return Verdict.FITS
    return Verdict.UNKNOWN if _unknown(tried) else Verdict.DOES_NOT_FIT


def _cards(tried: Iterable[Outcome]) -> tuple[Card, ...]:
    found = {card.id: card for one in tried for pool in one.pools if pool.usable for card in pool.cards if card.here}
    return tuple(found.values())


def _judge(tried: Iterable[Outcome], wanted: Sequence[Wanted], claim: Claim, taken: Taken) -> Iterable[Verdicted]:
    """Hold each card against each request; a card that several nodes reach is looked at once."""
    seen: set[CardId] = set()
    for one in tried:
        reached = [(card, pool) for pool in one.pools if pool.usable for card in pool.cards if card.here]
        for card, pool in reached:
            if card.id in seen:
                continue
            seen.add(card.id)
            for each in wanted:
                against = tuple(refusals(each, card, pool, taken, claim.spec.devices.constraints))
                excluded = (one.excluded,) if one.excluded else ()
                yield Verdicted(each.name, one.node.metadata.name, card.id, excluded + against)


def _funnel(request: str, cards: Sequence[Verdicted]) -> Funnel:
    mine = [one for one in cards if one.request == request]
    return funnel(request, len(mine), Counter(one.reasons[0].code for one in mine if one.reasons))


def funnel(request: str, looked_at: int, refused: Counter[Code]) -> Funnel:
    """Put a funnel together, the most frequent reason first."""
    ordered = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
    return Funnel(request, looked_at, tuple(ordered), looked_at - refused.total())


def _pools_out(tried: Iterable[Outcome]) -> tuple[PoolOut, ...]:
    return tuple(
        PoolOut(one.node.metadata.name, f"{pool.driver}/{pool.name}", pool_reason(pool))
        for one in tried
        for pool in one.pools
        if not pool.usable and one.excluded is None
    )


def remoteness(codes: Iterable[Code]) -> int:
    """How much of what stands against a card only others can change."""
    return sum(_FAR.get(code, 0) for code in codes)


def nearness(one: Verdicted) -> tuple[int, int, Fraction]:
    """Smaller is nearer: least that only others can change, fewest things at all, least missing."""
    far = remoteness(reason.code for reason in one.reasons)
    return far, len(one.reasons), sum((reason.shortfall for reason in one.reasons), Fraction(0))


def _nearest(cards: Sequence[Verdicted], wanted: Sequence[Wanted]) -> Verdicted | None:
    """The card that lacks least, of the first request that no card fits; else of all refused cards."""
    for each in wanted:
        mine = [one for one in cards if one.request == each.name]
        if mine and all(one.reasons for one in mine):
            return min(mine, key=nearness)
    return min((one for one in cards if one.reasons), key=nearness, default=None)


def _reasons(
    state: State, claim: Claim, tried: Sequence[Outcome], wanted: Sequence[Wanted], base: Explanation
) -> tuple[Reason, ...]:
    decided = [one.stopped for one in tried if one.stopped is not None and not one.undecided]
    stopped = decided or [one.stopped for one in tried if one.stopped is not None]
    if stopped:
        return (stopped[0].reason,)
    if all(one.reasons and one.reasons[0].code is Code.NODE_EXCLUDED for one in base.cards) and base.pools:
        return (base.pools[0].reason,)
    if not base.cards:
        return (Reason(Code.NO_CARDS),)
    lacking = [_lacking(each, base.cards) for each in wanted]
    by_request: dict[str, list[Reason | None]] = {}
    for each, reason in zip(wanted, lacking, strict=True):
        by_request.setdefault(each.name.partition("/")[0], []).append(reason)
    # A request is lacking when all of its alternatives are.
    found = [reasons[0] for reasons in by_request.values() if all(reason is not None for reason in reasons)]
    return tuple(reason for reason in found if reason is not None) or (_together(state, claim, tried),)


def _lacking(each: Wanted, cards: Sequence[Verdicted]) -> Reason | None:
    """Why this request alone cannot be had on any node; None where its own cards would do."""
    mine = [one for one in cards if one.request == each.name]
    refused = [one for one in mine if one.reasons]
    if len(refused) == len(mine) or each.ask.allocation_mode == "All":
        nearest = min(refused, key=nearness, default=None)
        return nearest.reasons[0] if nearest else None
    free = Counter(one.node for one in mine if not one.reasons)
    node, most = free.most_common(1)[0]
    if most >= each.ask.count:
        return None
    words: dict[str, str | int] = {"request": each.name, "asked": each.ask.count, "node": node, "free": most}
    return Reason(Code.TOO_FEW_CARDS, words)


def _together(state: State, claim: Claim, tried: Sequence[Outcome]) -> Reason:
    """Each request alone could be had: what keeps them apart?"""
    taken = Taken.by(one for one in state.claims if one.path != claim.path)
    constraints = claim.spec.devices.constraints
    for index, constraint in enumerate(constraints):
        devices = claim.spec.devices.model_copy(update={"constraints": constraints[:index] + constraints[index + 1 :]})
        freer = claim.model_copy(update={"spec": claim.spec.model_copy(update={"devices": devices})})
        if any(_placed(one, taken, freer, state) for one in tried):
            return constraint_reason(constraint)
    return Reason(Code.REQUESTS_COMPETE)


def _placed(one: Outcome, taken: Taken, claim: Claim, state: State) -> bool:
    if one.excluded:
        return False
    try:
        return search(one.pools, taken, (claim,), state.classes) is not None
    except Refused:
        return False
