"""Looks for cards on one node exactly as the allocator does: depth first, the first full solution wins.

It repeats the allocator's order of attempts, because that order decides which card is given, not only whether.
Source: allocator_incubating.go of k8s.io/dynamic-resource-allocation/structured (1.37).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from dra_driver.explain.amounts import NotRepresentable
from dra_driver.explain.judging import (
    Wanted,
    amounts,
    attribute_of,
    blocking_taint,
    concerns,
    fits_capacity,
    selection,
)
from dra_driver.explain.objects import Ask, AttributeValue, Claim, Constraint, DeviceClass, Number
from dra_driver.explain.pools import Card, Pool, draws
from dra_driver.explain.reasons import Code, Reason
from dra_driver.explain.state import CardId, Taken

LIMIT = 32
"""Devices in one allocation (resourceapi.AllocationResultsMaxSize)."""
_STEPS = 20_000


@dataclass(frozen=True)
class Grant:
    """One device for one request; `consumed` is None where it is taken whole."""

    request: str
    card: CardId
    consumed: Mapping[str, Number] | None


class Refused(Exception):
    """The allocator stops here and now, for a reason that concerns the whole claim."""

    def __init__(self, reason: Reason, card: CardId | None = None) -> None:
        super().__init__(reason.words)
        self.reason = reason
        self.card = card


class Undecided(Refused):
    """What the allocator would do cannot be told."""


class _End(Enum):
    DONE = auto()
    NO = auto()
    TOO_MANY = auto()


@dataclass(frozen=True)
class _Plan:
    """What one request or alternative needs: `count` cards; all of `cards` where it asks for all."""

    wanted: Wanted
    count: int
    cards: tuple[tuple[Card, Pool], ...] | None = None


@dataclass
class _Attempt:
    """What is given away so far in this search."""

    whole: dict[CardId, set[int]] = field(default_factory=lambda: defaultdict(set))
    shares: Counter[CardId] = field(default_factory=Counter)
    consumed: dict[CardId, dict[str, Number]] = field(default_factory=lambda: defaultdict(dict))
    counters: dict[tuple[str, str], dict[tuple[str, str], Number]] = field(default_factory=lambda: defaultdict(dict))
    values: dict[tuple[int, int], list[AttributeValue]] = field(default_factory=lambda: defaultdict(list))
    grants: list[list[Grant]] = field(default_factory=list)


def wanted_of(claim: Claim, classes: Mapping[str, DeviceClass]) -> tuple[tuple[Wanted, ...], ...]:
    """The alternatives of each request. Raises Refused where a class is missing."""
    return tuple(
        tuple(
            _wanted(f"{request.name}/{ask.name}" if request.first_available else request.name, ask, classes)
            for ask in (request.first_available or ((request.exactly,) if request.exactly else ()))
        )
        for request in claim.spec.devices.requests
    )


def search(
    pools: Sequence[Pool], taken: Taken, claims: Sequence[Claim], classes: Mapping[str, DeviceClass]
) -> tuple[tuple[Grant, ...], ...] | None:
    """The grants of each claim on the node with these pools; None where they do not fit. Raises Refused, Undecided."""
    attempt = _Search(pools, taken, claims, classes)
    try:
        return attempt.run()
    except Undecided as undecided:
        if undecided.reason.code is Code.SEARCH_TOO_LONG and attempt.hopeless():
            return None
        raise


def _wanted(name: str, ask: Ask, classes: Mapping[str, DeviceClass]) -> Wanted:
    if ask.derived_attributes:
        raise Undecided(Reason(Code.REQUEST_NOT_SUPPORTED, {"request": name, "problem": "it derives attributes"}))
    if ask.device_class_name not in classes:
        raise Refused(Reason(Code.CLASS_MISSING, {"class": ask.device_class_name}))
    return Wanted(name, ask, classes[ask.device_class_name])


class _Search:
    def __init__(
        self, pools: Sequence[Pool], taken: Taken, claims: Sequence[Claim], classes: Mapping[str, DeviceClass]
    ) -> None:
        self._pools = pools
        self._taken = taken
        self._claims = claims
        self._cards = tuple((card, pool) for pool in pools if pool.usable for card in pool.cards)
        self._selected: dict[tuple[str, int, CardId], bool] = {}
        self._steps = 0
        self._now = _Attempt(grants=[[] for _ in claims])
        self._plans = [self._plan_claim(index, claim, classes) for index, claim in enumerate(claims)]

    def run(self) -> tuple[tuple[Grant, ...], ...] | None:
        if self._request(0, 0) is _End.DONE:
            return tuple(tuple(grants) for grants in self._now.grants)
        return None

    def hopeless(self) -> bool:
        """Whether some request lacks cards even with all to itself, so that no order of attempts can succeed."""
        self._now = _Attempt(grants=[[] for _ in self._claims])
        try:
            return any(
                all(self._possible(index, plan) < plan.count for plan in alternatives)
                for index, requests in enumerate(self._plans)
                for alternatives in requests
            )
        except Refused:
            return False

    def _possible(self, claim: int, plan: _Plan) -> int:
        cards = self._cards if plan.cards is None else plan.cards
        return sum(
            self._offers(claim, plan.wanted, card) and blocking_taint(plan.wanted.ask, card) is None
            for card, _ in cards
        )

    def _plan_claim(
        self, index: int, claim: Claim, classes: Mapping[str, DeviceClass]
    ) -> tuple[tuple[_Plan, ...], ...]:
        plans, least = [], 0
        for alternatives in wanted_of(claim, classes):
            plans.append(tuple(self._plan(index, wanted) for wanted in alternatives))
            if not alternatives:
                raise Undecided(Reason(Code.REQUEST_NOT_SUPPORTED, {"request": "?", "problem": "it asks for nothing"}))
            least += min(plan.count for plan in plans[-1])
            if least > LIMIT:
                raise Refused(Reason(Code.TOO_MANY_DEVICES, {"limit": LIMIT}))
        return tuple(plans)

    def _plan(self, claim: int, wanted: Wanted) -> _Plan:
        if wanted.ask.allocation_mode == "ExactCount":
            return _Plan(wanted, wanted.ask.count)
        if wanted.ask.allocation_mode != "All":
            problem = f"its mode {wanted.ask.allocation_mode} is not known"
            raise Undecided(Reason(Code.REQUEST_NOT_SUPPORTED, {"request": wanted.name, "problem": problem}))
        for pool in self._pools:
            if not pool.usable:
                raise Refused(pool_reason(pool))
        cards = tuple(
            (card, pool) for card, pool in self._cards if self._selects(claim, wanted, card) and _fits(wanted, card, {})
        )
        return _Plan(wanted, len(cards), cards)

    def _selects(self, claim: int, wanted: Wanted, card: Card) -> bool:
        key = (wanted.name, claim, card.id)
        if key not in self._selected:
            reason = selection(wanted, card)
            if reason is not None and reason.code is Code.SELECTOR_ERROR:
                raise Refused(reason, card.id)
            if reason is not None and reason.code is Code.SELECTOR_UNKNOWN:
                raise Undecided(reason, card.id)
            self._selected[key] = reason is None and card.here
        return self._selected[key]

    def _request(self, claim: int, request: int) -> _End:
        """Go on with this request, whichever alternative it takes."""
        if claim >= len(self._plans):
            return _End.DONE
        if request >= len(self._plans[claim]):
            end = self._request(claim + 1, 0)
            return _End.NO if end is _End.TOO_MANY else end
        plans = self._plans[claim][request]
        if not self._claims[claim].spec.devices.requests[request].first_available:
            return self._device(claim, request, plans[0], 0, 0)
        ends = []
        for plan in plans:
            ends.append(self._device(claim, request, plan, 0, 0))
            if ends[-1] is _End.DONE:
                return _End.DONE
        return _End.TOO_MANY if all(end is _End.TOO_MANY for end in ends) else _End.NO

    def _device(self, claim: int, request: int, plan: _Plan, number: int, start: int) -> _End:
        """Find the next device of a request, beginning at card `start`."""
        self._steps += 1
        if self._steps > _STEPS:
            raise Undecided(Reason(Code.SEARCH_TOO_LONG))
        if plan.cards is not None and not plan.cards:
            return _End.NO
        if number >= plan.count:
            return self._request(claim, request + 1)
        if plan.count - number > LIMIT - len(self._now.grants[claim]):
            return _End.TOO_MANY
        if plan.cards is not None:
            card, pool = plan.cards[number]
            return self._try(claim, request, plan, number, card, pool, 0) or _End.NO
        for position in range(start, len(self._cards)):
            card, pool = self._cards[position]
            if self._offers(claim, plan.wanted, card):
                end = self._try(claim, request, plan, number, card, pool, position + 1)
                if end in (_End.DONE, _End.TOO_MANY):
                    return end
        return _End.NO

    def _try(
        self, claim: int, request: int, plan: _Plan, number: int, card: Card, pool: Pool, following: int
    ) -> _End | None:
        """Give the card and go on; take it back unless that leads to a solution. None: it cannot be given."""
        added = self._give(claim, plan, card, pool)
        if added is None:
            return None
        end = self._device(claim, request, plan, number + 1, following)
        if end is not _End.DONE:
            self._take_back(claim, card, pool, added)
        return end

    def _offers(self, claim: int, wanted: Wanted, card: Card) -> bool:
        if self._occupied(claim, wanted.ask, card):
            return False
        return self._selects(claim, wanted, card) and _fits(wanted, card, self._held(card))

    def _occupied(self, claim: int, ask: Ask, card: Card) -> bool:
        if ask.admin_access:
            return claim in self._now.whole.get(card.id, ())
        return card.id in self._taken.devices or bool(self._now.whole.get(card.id))

    def _held(self, card: Card) -> Mapping[str, Number]:
        before, now = self._taken.consumed.get(card.id, {}), self._now.consumed.get(card.id, {})
        return {name: before.get(name, 0) + now.get(name, 0) for name in (*before, *now)}

    def _give(self, claim: int, plan: _Plan, card: Card, pool: Pool) -> _Given | None:
        wanted = plan.wanted
        if self._occupied(claim, wanted.ask, card):
            return None
        in_use = card.id in self._taken.shared or self._now.shares[card.id] > 0
        draw = not (card.shared and in_use)
        if draw and not self._draw(card, pool):
            return None
        constrained = self._constrain(claim, plan, card)
        if constrained is None or not _fits(wanted, card, self._held(card)):
            self._undo(claim, card, pool, draw, constrained or ())
            return None
        consumed = self._charge(claim, wanted, card)
        self._now.grants[claim].append(Grant(wanted.name, card.id, consumed or None))
        return _Given(draw, constrained, consumed)

    def _charge(self, claim: int, wanted: Wanted, card: Card) -> Mapping[str, Number] | None:
        if not card.shared:
            self._now.whole[card.id].add(claim)
            return None
        takes = amounts(wanted.ask, card)
        self._now.shares[card.id] += 1
        sums = self._now.consumed[card.id]
        for name, amount in takes.items():
            sums[name] = sums.get(name, 0) + amount
        return takes

    def _take_back(self, claim: int, card: Card, pool: Pool, given: _Given) -> None:
        self._now.grants[claim].pop()
        if card.shared:
            self._now.shares[card.id] -= 1
            for name, amount in (given.consumed or {}).items():
                self._now.consumed[card.id][name] -= amount
        else:
            self._now.whole[card.id].discard(claim)
        self._undo(claim, card, pool, given.drew, given.constrained)

    def _undo(self, claim: int, card: Card, pool: Pool, drew: bool, constrained: tuple[int, ...]) -> None:
        for index in constrained:
            self._now.values[claim, index].pop()
        if drew:
            drawn = self._now.counters[pool.driver, pool.name]
            for key, amount in draws(card.device):
                drawn[key] -= amount

    def _draw(self, card: Card, pool: Pool) -> bool:
        if not card.device.consumes_counters:
            return True
        drawn = self._now.counters[pool.driver, pool.name]
        for key, amount in draws(card.device):
            drawn[key] = drawn.get(key, 0) + amount
        if all(amount >= drawn.get(key, 0) for key, amount in pool.counters.items()):
            return True
        for key, amount in draws(card.device):
            drawn[key] -= amount
        return False

    def _constrain(self, claim: int, plan: _Plan, card: Card) -> tuple[int, ...] | None:
        """Add the card to all constraints that concern it, or to none and return None."""
        if blocking_taint(plan.wanted.ask, card) is not None:
            return None
        added: list[int] = []
        for index, constraint in enumerate(self._claims[claim].spec.devices.constraints):
            if not concerns(constraint, plan.wanted.name):
                continue
            value = _compared(constraint, card)
            values = self._now.values[claim, index]
            if value is None or not _agrees(constraint, value, values):
                for done in added:
                    self._now.values[claim, done].pop()
                if plan.cards is not None:
                    raise Refused(constraint_reason(constraint), card.id)
                return None
            values.append(value)
            added.append(index)
        return tuple(added)


@dataclass(frozen=True)
class _Given:
    drew: bool
    constrained: tuple[int, ...]
    consumed: Mapping[str, Number] | None


def _fits(wanted: Wanted, card: Card, held: Mapping[str, Number]) -> bool:
    try:
        return fits_capacity(wanted.ask, card, held)
    except NotRepresentable as error:
        words = {"capacity": "capacity", "problem": str(error)}
        raise Refused(Reason(Code.NOT_REPRESENTABLE, words), card.id) from error


def _compared(constraint: Constraint, card: Card) -> AttributeValue | None:
    value = attribute_of(card, constraint.match_attribute or constraint.distinct_attribute or "")
    if value is not None and isinstance(value[1], tuple):
        raise Undecided(constraint_reason(constraint), card.id)
    return value


def _agrees(constraint: Constraint, value: AttributeValue, values: Sequence[AttributeValue]) -> bool:
    if constraint.match_attribute is not None:
        return not values or value == values[0]
    return value not in values


def constraint_reason(constraint: Constraint) -> Reason:
    """The reason that names a constraint."""
    kind = "matchAttribute" if constraint.match_attribute is not None else "distinctAttribute"
    name = constraint.match_attribute or constraint.distinct_attribute or ""
    return Reason(Code.CONSTRAINT_UNMET, {"constraint": f"{kind} {name}"})


def pool_reason(pool: Pool) -> Reason:
    """Why a pool gives no cards away."""
    if pool.incomplete:
        return Reason(Code.POOL_INCOMPLETE, {"present": pool.slices, "expected": pool.expected})
    return Reason(Code.POOL_INVALID, {"problem": pool.invalid})
