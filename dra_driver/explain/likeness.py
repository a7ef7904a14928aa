"""Cards that are alike for a claim, judged once: what is said of them differs in figures alone.

How much is missing is worked out for each card by a few comparisons; reasons with all their words are made for the one
card of which there is something to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

from dra_driver.explain.amounts import NotRepresentable, breaks_policy, consumed
from dra_driver.explain.conditions import conditions
from dra_driver.explain.explanation import remoteness
from dra_driver.explain.index import Place, Seat
from dra_driver.explain.judging import Wanted, attribute_of, refusals
from dra_driver.explain.objects import Constraint, Number
from dra_driver.explain.reasons import Code, Reason
from dra_driver.explain.selectors import Judgement
from dra_driver.explain.state import Taken

# With these the search may end in another way than "no card".
_ODD = frozenset({Code.SELECTOR_ERROR, Code.SELECTOR_UNKNOWN, Code.NOT_REPRESENTABLE})
# With only these the search goes on, and finds nothing or too many ways to try.
_SOFT = frozenset({Code.COUNTERS_SHORT, Code.ATTRIBUTE_MISSING})


@dataclass(frozen=True, eq=False)
class Like:
    """What is to be said of all cards that are alike: the codes per request, and which conditions they meet."""

    codes: tuple[tuple[Code, ...], ...]
    meets: tuple[tuple[int, int], ...]
    odd: bool

    @cached_property
    def remote(self) -> tuple[tuple[int, int], ...]:
        """How far from fitting such a card is, per request, before figures are looked at."""
        return tuple((remoteness(codes), len(codes)) for codes in self.codes)

    @cached_property
    def possible(self) -> tuple[bool, ...]:
        """For which requests the search would look at such a card."""
        return tuple(_SOFT.issuperset(codes) for codes in self.codes)


@dataclass(frozen=True)
class _Cost:
    """What a request takes of a capacity; `ruled_out` where no card with that capacity would do."""

    name: str
    takes: Number
    value: Number
    ruled_out: bool
    shares: bool


class Likes:
    """The cards of one place after the other, held against the requests of one claim."""

    def __init__(self, wanted: Sequence[Wanted], constraints: tuple[Constraint, ...]) -> None:
        self._wanted = wanted
        self._constraints = constraints
        self._compared = tuple(one.match_attribute or one.distinct_attribute or "" for one in constraints)
        sources = ((*one.device_class.spec.selectors, *one.ask.selectors) for one in wanted)
        expressions = (one.cel.expression for each in sources for one in each if one.cel)
        self._expressions = tuple(dict.fromkeys(expressions))
        self._known: dict[tuple[object, ...], Like] = {}
        self._costs: dict[object, tuple[tuple[_Cost, ...], ...]] = {}

    def on(self, place: Place, excluded: Reason | None) -> Iterator[tuple[Seat, Like, tuple[float, ...]]]:
        """The place's cards, each with its like, and with how much is missing per request in parts of the whole."""
        answers = [place.answers(expression) for expression in self._expressions]
        said = zip(*answers, strict=True) if answers else repeat(())
        for seat, judged in zip(place.seats, said, strict=bool(answers)):
            if seat.likeness is None:
                reasons = self.reasons(seat, place.taken, excluded)
                missing = tuple(float(sum(reason.shortfall for reason in each)) for each in reasons)
                yield seat, self._judged(seat, place.taken, reasons), missing
            else:
                yield seat, *self._of(seat, judged, place.taken, excluded)

    def _of(
        self, seat: Seat, judged: tuple[Judgement, ...], taken: Taken, excluded: Reason | None
    ) -> tuple[Like, tuple[float, ...]]:
        kinds = tuple(_kind(attribute_of(seat.card, name)) for name in self._compared)
        short, missing = self._missing(seat)
        key = (seat.likeness, judged, kinds, short, excluded.parameters["why"] if excluded else None)
        if key not in self._known:
            self._known[key] = self._judged(seat, taken, self.reasons(seat, taken, excluded))
        return self._known[key], missing

    def reasons(self, seat: Seat, taken: Taken, excluded: Reason | None) -> tuple[tuple[Reason, ...], ...]:
        """Everything against a card, per request."""
        first = (excluded,) if excluded else ()
        return tuple(
            first + tuple(refusals(each, seat.card, seat.pool, taken, self._constraints)) for each in self._wanted
        )

    def _judged(self, seat: Seat, taken: Taken, reasons: tuple[tuple[Reason, ...], ...]) -> Like:
        met = conditions((seat.card,), self._wanted, self._constraints, taken)
        listed = any(_kind(attribute_of(seat.card, name)) == "list" for name in self._compared)
        codes = tuple(tuple(reason.code for reason in each) for each in reasons)
        odd = listed or any(code in _ODD for each in codes for code in each)
        return Like(codes, tuple((one.matches, one.unknown) for one in met), odd)

    def _missing(self, seat: Seat) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Which capacities are short (1) or have all shares taken (2), and how much is missing per request."""
        assert seat.likeness is not None
        profile = seat.likeness[0]
        if profile not in self._costs:
            self._costs[profile] = tuple(_costs(each, seat) for each in self._wanted)
        short: list[int] = []
        missing: list[float] = []
        for costs in self._costs[profile]:
            lacks = 0.0
            for cost in costs:
                free = cost.value - seat.held.get(cost.name, 0)
                if cost.ruled_out or cost.takes > free:
                    lacks += float((cost.takes - free) / (cost.value or 1))
                short.append(0 if cost.takes <= free else 2 if cost.shares and free <= 0 else 1)
            missing.append(lacks)
        return tuple(short), tuple(missing)


def _costs(wanted: Wanted, seat: Seat) -> tuple[_Cost, ...]:
    found = []
    for name, capacity in sorted(seat.card.device.capacity.items()):
        try:
            takes = consumed(wanted.ask.capacity.requests.get(name), capacity)
        except NotRepresentable:
            continue
        ruled_out = takes > capacity.value or breaks_policy(takes, capacity.request_policy)
        found.append(_Cost(name, takes, capacity.value, ruled_out, name.rpartition("/")[2] == "shares"))
    return tuple(found)


def _kind(value: object) -> str:
    if value is None:
        return "absent"
    return "list" if isinstance(value, tuple) and isinstance(value[1], tuple) else "one"
