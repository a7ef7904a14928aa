"""The same facts as a State, kept up while objects change: what one change touches is found without a look at the rest.

A node's part of the facts is a small State of its own, so that everything that is pure works on it as it does on the
whole. Whoever keeps answers per node is told which nodes' answers may have changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dra_driver.explain.objects import Claim, ClaimSpec, DeviceClass, Metadata, Node, Number, Slice, TaintRule
from dra_driver.explain.pools import Card, Pool, gather
from dra_driver.explain.selectors import Judgement, judge
from dra_driver.explain.state import CardId, PoolId, State, Taken

Likeness = tuple[object, ...]
_ANSWERS_KEPT = 32
_NO_SPEC = ClaimSpec()


@dataclass(frozen=True)
class Seat:
    """A card that a node reaches, and what shares hold of it.

    Cards of one `likeness` differ only in name, in attributes and in what is held; None: it has no like. `counted` is
    False where another node that reaches the card counts it.
    """

    card: Card
    pool: Pool
    held: Mapping[str, Number]
    likeness: Likeness | None
    counted: bool


@dataclass(frozen=True)
class Place:
    """One node: its part of the facts, and what follows from them for every claim."""

    node: Node
    state: State
    owners: Mapping[CardId, str]
    profiles: Callable[[Card], int]
    _answers: dict[str, tuple[Judgement, ...]] = field(default_factory=dict)

    @cached_property
    def taken(self) -> Taken:
        """What allocations hold of the cards that the node reaches."""
        return Taken.by(self.state.claims)

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """The pools that the node reaches, in the allocator's order."""
        return gather(self.state, self.node, self.taken)

    @cached_property
    def seats(self) -> tuple[Seat, ...]:
        """The cards that can be had on the node."""
        name = self.node.metadata.name
        return tuple(
            Seat(card, pool, self._held(card), self._likeness(card), self.owners.get(card.id, name) == name)
            for pool in self.pools
            if pool.usable
            for card in pool.cards
            if card.here
        )

    @cached_property
    def strays(self) -> bool:
        """Whether the search meets cards that the node cannot have."""
        return any(not card.here for pool in self.pools for card in pool.cards)

    def _likeness(self, card: Card) -> Likeness | None:
        if card.device.consumes_counters:
            return None
        return self.profiles(card), card.taints, card.id in self.taken.devices

    def warm(self) -> None:
        """Work out what concerns every claim."""
        _ = self.seats, self.strays
        for one in self.state.classes.values():
            for selector in one.spec.selectors:
                if selector.cel:
                    self.answers(selector.cel.expression)

    def answers(self, expression: str) -> tuple[Judgement, ...]:
        """What a selector says of the cards that can be had on the node."""
        if expression not in self._answers:
            if len(self._answers) >= _ANSWERS_KEPT:
                self._answers.clear()
            self._answers[expression] = tuple(judge(expression, seat.card) for seat in self.seats)
        return self._answers[expression]

    def _held(self, card: Card) -> Mapping[str, Number]:
        return self.taken.consumed.get(card.id, {})


class Index:
    """Facts that change. Objects come and go by their names; claims by their UIDs, and only what they hold is kept."""

    def __init__(self) -> None:
        self.classes: dict[str, DeviceClass] = {}
        self.revision = 0
        """Counts changes that may change an answer."""
        self._slices: dict[str, Slice] = {}
        self._nodes: dict[str, Node] = {}
        self._rules: dict[str, TaintRule] = {}
        self._members: dict[PoolId, dict[str, Slice]] = defaultdict(dict)
        self._near: dict[str, set[PoolId]] = defaultdict(set)
        self._anywhere: set[PoolId] = set()
        self._holders: dict[PoolId, dict[str, Claim]] = defaultdict(dict)
        self._held: dict[str, frozenset[PoolId]] = {}
        self._places: dict[str, Place] = {}
        self._owners: dict[CardId, str] | None = {}
        self._profiles: dict[Likeness, int] = {}
        self._readers: list[Callable[[Iterable[str] | None], None]] = []

    def tell(self, reader: Callable[[Iterable[str] | None], None]) -> None:
        """Call `reader` with the names of nodes whose facts changed; with None when it may be all of them."""
        self._readers.append(reader)

    def nodes(self) -> Iterable[str]:
        """The nodes to consider: those that are known, else those that slices name (as State.places)."""
        return self._nodes or self._near

    def place(self, node: str) -> Place | None:
        """One node's part; None where it is not to be considered."""
        if node not in self.nodes():
            return None
        if node not in self._places:
            self._places[node] = self._make(node)
        return self._places[node]

    def state(self) -> State:
        """All of it, as it is now. The size of the cluster: for comparison and for nothing in a hurry."""
        claims = {claim.metadata.uid: claim for holders in self._holders.values() for claim in holders.values()}
        return State(
            slices=tuple(self._slices.values()),
            classes=dict(self.classes),
            claims=tuple(claims.values()),
            nodes=tuple(self._nodes.values()),
            taint_rules=tuple(self._rules.values()),
        )

    def put_slice(self, name: str, wire: Slice | None) -> None:
        """Take a slice, or its end."""
        before = self._slices.pop(name, None)
        self._owners = None
        if before is not None:
            self._remove_slice(before)
        if wire is not None:
            self._slices[name] = wire
            pool = wire.spec.driver, wire.spec.pool.name
            self._members[pool][name] = wire
            if wire.spec.node_name:
                self._near[wire.spec.node_name].add(pool)
            else:
                self._anywhere.add(pool)
        for one in (before, wire):
            if one is not None:
                self._pool_changed((one.spec.driver, one.spec.pool.name), one.spec.node_name)

    def put_node(self, name: str, node: Node | None) -> None:
        """Take a node, or its end; nothing happens where nothing changed that matters."""
        if self._nodes.get(name) == node:
            return
        first = not self._nodes
        if node is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = node
        everything = first or not self._nodes or bool(self._anywhere)
        self._owners = None
        self._changed(None if everything else (name,))

    def put_class(self, name: str, one: DeviceClass | None) -> None:
        """Take a class, or its end."""
        if self.classes.get(name) == one:
            return
        if one is None:
            self.classes.pop(name, None)
        else:
            self.classes[name] = one
        self._changed(None)

    def put_rule(self, name: str, rule: TaintRule | None) -> None:
        """Take a taint rule, or its end."""
        before = self._rules.get(name)
        if before == rule:
            return
        if rule is None:
            del self._rules[name]
        else:
            self._rules[name] = rule
        touched = [one for one in (before, rule) if one is not None]
        for pool, members in list(self._members.items()):
            if any(_touches(one, pool) for one in touched):
                for each in members.values():
                    self._pool_changed(pool, each.spec.node_name)

    def put_claim(self, uid: str, claim: Claim | None) -> None:
        """Take what a claim holds, or that it holds nothing."""
        claim = _holding(claim) if claim is not None else None
        results = claim.results if claim is not None else ()
        pools = frozenset((one.driver, one.pool) for one in results)
        before = self._held.get(uid, frozenset())
        if claim is not None and pools == before and all(self._holders[pool][uid] == claim for pool in pools):
            return
        for pool in before - pools:
            del self._holders[pool][uid]
        for pool in pools:
            assert claim is not None
            self._holders[pool][uid] = claim
        if pools:
            self._held[uid] = pools
        else:
            self._held.pop(uid, None)
        for pool in before | pools:
            for one in list(self._members.get(pool, {}).values()):
                self._pool_changed(pool, one.spec.node_name)

    def _remove_slice(self, one: Slice) -> None:
        pool = one.spec.driver, one.spec.pool.name
        members = self._members[pool]
        del members[one.metadata.name]
        node = one.spec.node_name
        if node and not any(other.spec.node_name == node for other in members.values()):
            self._near[node].discard(pool)
            if not self._near[node]:
                del self._near[node]
        if not any(not other.spec.node_name for other in members.values()):
            self._anywhere.discard(pool)
        if not members:
            del self._members[pool]

    def _pool_changed(self, pool: PoolId, node: str | None) -> None:
        """A pool of one node touches that node; its other slices, where it has some, are their own nodes' affair."""
        if not node:
            self._changed(None)
            return
        others = {one.spec.node_name for one in self._members.get(pool, {}).values()}
        if None in others:
            self._changed(None)
        else:
            self._changed({node, *(name for name in others if name)})

    def _changed(self, nodes: Iterable[str] | None) -> None:
        self.revision += 1
        if nodes is None:
            self._places.clear()
        else:
            for name in nodes:
                self._places.pop(name, None)
        for reader in self._readers:
            reader(nodes)

    def _make(self, name: str) -> Place:
        node = self._nodes.get(name) or Node(metadata=Metadata(name=name))
        pools = sorted(self._near.get(name, set()) | self._anywhere)
        holders = {uid: claim for pool in pools for uid, claim in self._holders.get(pool, {}).items()}
        state = State(
            slices=tuple(one for pool in pools for one in self._members[pool].values()),
            classes=self.classes,
            claims=tuple(holders.values()),
            nodes=(node,),
            taint_rules=tuple(self._rules.values()),
        )
        return Place(node, state, self._owned(), self._profile)

    def _owned(self) -> Mapping[CardId, str]:
        """Which node counts the cards that several nodes may reach: the first by name."""
        if self._owners is None:
            owners: dict[CardId, str] = {}
            slices = tuple(one for pool in self._anywhere for one in self._members[pool].values())
            shared = State(slices=slices, taint_rules=tuple(self._rules.values()))
            for name in sorted(self.nodes()) if slices else ():
                node = self._nodes.get(name) or Node(metadata=Metadata(name=name))
                pools = gather(shared, node, Taken.by(()))
                for card in (card for pool in pools if pool.usable for card in pool.cards if card.here):
                    owners.setdefault(card.id, name)
            self._owners = owners
        return self._owners

    def _profile(self, card: Card) -> int:
        """A number for all that decides about a card but its name, its attributes and what is taken of it."""
        key: Likeness = (card.driver, card.shared, *sorted(card.device.capacity.items(), key=lambda item: item[0]))
        return self._profiles.setdefault(key, len(self._profiles))


def _holding(claim: Claim) -> Claim:
    """What matters of a claim to the others: its name and what it has."""
    names = claim.metadata.model_copy(update={"labels": {}})
    status = claim.status.model_copy(update={"reserved_for": ()})
    return claim.model_copy(update={"metadata": names, "spec": _NO_SPEC, "status": status})


def _touches(rule: TaintRule, pool: PoolId) -> bool:
    chosen = rule.spec.device_selector
    return chosen is not None and chosen.driver in (None, pool[0]) and chosen.pool in (None, pool[1])
