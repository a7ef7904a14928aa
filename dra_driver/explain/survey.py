"""The explanation of one kind of claim, kept up while the cluster changes.

It gives the answers of `explain`, with every node and every card looked at again only when something about it changed:
what is known of a node is kept per node, and cards that are alike for the claim share one verdict.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace

from dra_driver.explain.admission import Placing, refusal
from dra_driver.explain.conditions import Condition, conditions
from dra_driver.explain.deciding import Outcome, attempt
from dra_driver.explain.explanation import Explanation, Funnel, Placement, PoolOut, Verdict, Verdicted, funnel
from dra_driver.explain.index import Index, Place
from dra_driver.explain.judging import Wanted
from dra_driver.explain.likeness import Like, Likes
from dra_driver.explain.objects import Claim
from dra_driver.explain.reasons import Code, Reason
from dra_driver.explain.searching import LIMIT, Refused, Undecided, constraint_reason, pool_reason, wanted_of
from dra_driver.explain.state import CardId, Taken

_NOTHING = Taken(frozenset(), frozenset(), {})


@dataclass(frozen=True)
class _Seated:
    """A card of a node: its like, and how much is missing per request."""

    card: CardId
    like: Like
    missing: tuple[float, ...]


@dataclass(frozen=True)
class _Here:
    """All cards of one like on one node: how many, and how much the nearest one is missing per request."""

    number: int
    missing: tuple[float, ...]


@dataclass(frozen=True)
class _Finding:
    outcome: Outcome
    seats: tuple[_Seated, ...]
    out: tuple[PoolOut, ...]


class Survey:
    """All nodes, held against one claim (whose name does not matter) and the pod that waits for it."""

    def __init__(
        self, index: Index, claim: Claim, pod: Placing | None, freer: Callable[[Claim], Survey] | None = None
    ) -> None:
        """`freer` gives the survey of a changed claim, which is looked at where two requests keep each other out."""
        self.claim = claim
        self.pod = pod
        self._index = index
        self._freer = freer or (lambda changed: Survey(index, changed, pod))
        self._findings: dict[str, _Finding] = {}
        self._where: dict[Like, dict[str, _Here]] = defaultdict(dict)
        self._stale: set[str] = set()
        self._serial, self._count = object(), 0
        self._begin()

    def changed(self, nodes: Iterable[str] | None) -> None:
        """Hear which nodes' facts changed (Index.tell)."""
        if nodes is None:
            self._begin()
        else:
            self._stale.update(nodes)

    @property
    def looks(self) -> Hashable:
        """Counts looks at nodes: the same value, the same answer."""
        return self._serial, self._count

    @property
    def fresh(self) -> bool:
        """Whether nothing has changed since the last look."""
        return not self._stale

    def work(self) -> Iterator[None]:
        """Look at what changed, one node a step."""
        while self._stale:
            self._look(self._stale.pop())
            yield

    def refresh(self) -> None:
        """Look at all that changed."""
        for _ in self.work():
            pass

    @property
    def verdict(self) -> Verdict:
        """What would become of the claim; as of the last look."""
        stopped = [one.outcome for one in self._findings.values() if one.outcome.stopped is not None]
        if any(not one.undecided for one in stopped):
            return Verdict.DOES_NOT_FIT
        if any(one.outcome.grants is not None for one in self._findings.values()):
            return Verdict.FITS
        return Verdict.UNKNOWN if stopped else Verdict.DOES_NOT_FIT

    @property
    def somewhere(self) -> bool:
        """Whether some node would take the claim, whatever the others do."""
        return any(one.outcome.grants is not None for one in self._findings.values())

    def explanation(self, path: str) -> Explanation:
        """The same as `explain` says, but for the verdict on each single card. Looks at what changed first."""
        self.refresh()
        verdict = self.verdict
        base = Explanation(path, verdict, placements=self._placements() if verdict is Verdict.FITS else ())
        if self._refused is not None:
            undecided = any(one.outcome.undecided for one in self._findings.values())
            return replace(base, reasons=(self._refused,), verdict=Verdict.UNKNOWN if undecided else verdict)
        base = replace(
            base,
            funnels=tuple(self._funnel(number, one) for number, one in enumerate(self._wanted)),
            pools=tuple(out for name in sorted(self._findings) for out in self._findings[name].out),
            conditions=self._conditions(),
            nearest=None if verdict is Verdict.FITS else self._nearest(),
        )
        return base if verdict is Verdict.FITS else replace(base, reasons=self._reasons(base))

    def nearest_cards(self, wanted: Callable[[Iterable[Code]], bool], limit: int) -> list[Verdicted]:
        """Cards refused for reasons whose codes satisfy `wanted`, the nearest ones first, at most `limit`."""
        there = (
            (*like.remote[number], here.missing[number], node, number, like)
            for like, nodes in self._where.items()
            for number, codes in enumerate(like.codes)
            if wanted(codes)
            for node, here in nodes.items()
        )
        nearest = heapq.nsmallest(limit, there, key=lambda each: each[:5])
        cards: list[Verdicted] = []
        for *_, node, number, like in nearest:
            seats = [one for one in self._findings[node].seats if one.like is like]
            seats.sort(key=lambda one: one.missing[number])
            cards += [self._verdicted(number, node, one.card) for one in seats]
        return cards[:limit]

    def fitting(self) -> Counter[str]:
        """How many times a card of each node would do for a request."""
        found: Counter[str] = Counter()
        for like, nodes in self._where.items():
            times = sum(not codes for codes in like.codes)
            if times:
                found.update({name: times * here.number for name, here in nodes.items()})
        return found

    def _begin(self) -> None:
        """Forget everything: the claim is read anew too, since classes may have changed."""
        self._refused: Reason | None = None
        self._wanted: tuple[Wanted, ...] = ()
        self._plain = False
        try:
            alternatives = wanted_of(self.claim, self._index.classes)
        except Refused as refused:
            self._refused = refused.reason
        else:
            self._wanted = tuple(one for each in alternatives for one in each)
            self._groups = _grouped(alternatives)
            least = sum(min((one.ask.count for one in each), default=LIMIT + 1) for each in alternatives)
            self._plain = least <= LIMIT and all(one.ask.allocation_mode == "ExactCount" for one in self._wanted)
        self._findings.clear()
        self._where.clear()
        self._likes = Likes(self._wanted, self.claim.spec.devices.constraints)
        self._stale = set(self._index.nodes())

    def _look(self, name: str) -> None:
        self._count += 1
        before = self._findings.pop(name, None)
        for one in before.seats if before else ():
            self._where[one.like].pop(name, None)
            if not self._where[one.like]:
                del self._where[one.like]
        place = self._index.place(name)
        if place is None:
            return
        found = self._findings[name] = self._find(place)
        alike: dict[Like, list[tuple[float, ...]]] = defaultdict(list)
        for one in found.seats:
            alike[one.like].append(one.missing)
        for like, missing in alike.items():
            self._where[like][name] = _Here(len(missing), tuple(map(min, zip(*missing, strict=True))))

    def _find(self, place: Place) -> _Finding:
        excluded = refusal(place.node, self.pod)
        found = list(self._likes.on(place, excluded)) if self._wanted else []
        out = tuple(
            PoolOut(place.node.metadata.name, f"{pool.driver}/{pool.name}", pool_reason(pool))
            for pool in place.pools
            if not pool.usable and excluded is None
        )
        if excluded is None and self._hopeless(place, [like for _, like, _ in found]):
            outcome = Outcome(place.node, place.pools, None)
        else:
            outcome = attempt(place.node, place.pools, place.taken, (self.claim,), self._index.classes, self.pod)
        seats = tuple(_Seated(seat.card.id, like, missing) for seat, like, missing in found if seat.counted)
        return _Finding(replace(outcome, pools=()), seats, out)

    def _hopeless(self, place: Place, likes: list[Like]) -> bool:
        """Whether the search is sure to find nothing: some request has too few cards even with all to itself."""
        if not self._plain or place.strays or any(like.odd for like in likes):
            return False
        return any(
            all(sum(like.possible[n] for like in likes) < self._wanted[n].ask.count for n in group)
            for group in self._groups
        )

    def _placements(self) -> tuple[Placement, ...]:
        ordered = ((name, self._findings[name].outcome.grants) for name in sorted(self._findings))
        return tuple(Placement(name, grants[0]) for name, grants in ordered if grants is not None)

    def _funnel(self, number: int, wanted: Wanted) -> Funnel:
        refused: Counter[Code] = Counter()
        looked_at = 0
        for like, nodes in self._where.items():
            cards = sum(here.number for here in nodes.values())
            looked_at += cards
            if like.codes[number]:
                refused[like.codes[number][0]] += cards
        return funnel(wanted.name, looked_at, refused)

    def _conditions(self) -> tuple[Condition, ...]:
        empty = conditions((), self._wanted, self.claim.spec.devices.constraints, _NOTHING)
        counts = [[0, 0] for _ in empty]
        total = 0
        for like, nodes in self._where.items():
            cards = sum(here.number for here in nodes.values())
            total += cards
            for count, (matches, unknown) in zip(counts, like.meets, strict=True):
                count[0] += matches * cards
                count[1] += unknown * cards
        return tuple(
            replace(one, matches=matches, unknown=unknown, of=total)
            for one, (matches, unknown) in zip(empty, counts, strict=True)
        )

    def _nearest(self) -> Verdicted | None:
        """The card that lacks least, of the first request that no card fits; else of all refused cards."""
        for number in range(len(self._wanted)):
            if self._where and all(like.codes[number] for like in self._where):
                return self._first_of((number,))
        return self._first_of(range(len(self._wanted)))

    def _first_of(self, numbers: Iterable[int]) -> Verdicted | None:
        """The nearest refused card for these requests; the first one by node, card and request among equals."""
        refused = (
            (*like.remote[number], here.missing[number], node)
            for like, nodes in self._where.items()
            for number in numbers
            if like.codes[number]
            for node, here in nodes.items()
        )
        nearest = min(refused, default=None)
        if nearest is None:
            return None
        *best, node = nearest
        return next(
            self._verdicted(number, node, one.card)
            for one in self._findings[node].seats
            for number in numbers
            if one.like.codes[number] and [*one.like.remote[number], one.missing[number]] == best
        )

    def _verdicted(self, number: int, node: str, card: CardId) -> Verdicted:
        """All that is against one card, in figures."""
        place = self._index.place(node)
        assert place is not None
        seat = next(one for one in place.seats if one.card.id == card)
        reasons = self._likes.reasons(seat, place.taken, refusal(place.node, self.pod))
        return Verdicted(self._wanted[number].name, node, card, reasons[number])

    def _reasons(self, base: Explanation) -> tuple[Reason, ...]:
        stopped = [
            self._findings[name].outcome.stopped
            for name in sorted(self._findings)
            if self._findings[name].outcome.stopped
        ]
        decided = [one for one in stopped if not isinstance(one, Undecided)]
        for one in (*decided, *stopped):
            if one is not None:
                return (one.reason,)
        if base.pools and all(codes[:1] == (Code.NODE_EXCLUDED,) for like in self._where for codes in like.codes):
            return (base.pools[0].reason,)
        if not self._where:
            return (Reason(Code.NO_CARDS),)
        lacking = [[self._lacking(number) for number in group] for group in self._groups]
        found = [reasons[0] for reasons in lacking if all(reason is not None for reason in reasons)]
        return tuple(reason for reason in found if reason is not None) or (self._together(),)

    def _lacking(self, number: int) -> Reason | None:
        """Why this request alone cannot be had on any node; None where its own cards would do."""
        wanted = self._wanted[number]
        likes = [like for like in self._where if not like.codes[number]]
        if not likes or wanted.ask.allocation_mode == "All":
            nearest = self._first_of((number,))
            return nearest.reasons[0] if nearest else None
        free: Counter[str] = Counter()
        for like in likes:
            free.update({name: here.number for name, here in self._where[like].items()})
        most = max(free.values())
        if most >= wanted.ask.count:
            return None
        node = min(name for name, number in free.items() if number == most)
        return Reason(
            Code.TOO_FEW_CARDS, {"request": wanted.name, "asked": wanted.ask.count, "node": node, "free": most}
        )

    def _together(self) -> Reason:
        """Each request alone could be had: what keeps them apart?"""
        constraints = self.claim.spec.devices.constraints
        for index, constraint in enumerate(constraints):
            left = constraints[:index] + constraints[index + 1 :]
            devices = self.claim.spec.devices.model_copy(update={"constraints": left})
            spec = self.claim.spec.model_copy(update={"devices": devices})
            freer = self._freer(self.claim.model_copy(update={"spec": spec}))
            freer.refresh()
            if freer.somewhere:
                return constraint_reason(constraint)
        return Reason(Code.REQUESTS_COMPETE)


def _grouped(alternatives: tuple[tuple[Wanted, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """The positions of each request's alternatives among all of them."""
    groups, start = [], 0
    for each in alternatives:
        groups.append(tuple(range(start, start + len(each))))
        start += len(each)
    return tuple(groups)
