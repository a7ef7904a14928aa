"""The facts that a decision rests on: slices, classes, claims, nodes and taint rules, at one moment.

Made from plain API objects, whether they come from a cluster or from a file, so that the same question has the same
answer wherever it is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from dra_driver.errors import ObjectRejected
from dra_driver.explain.objects import Claim, DeviceClass, Metadata, Node, Number, Slice, TaintRule, Wire
from dra_driver.kube.claims import dotted

CardId = tuple[str, str, str]
PoolId = tuple[str, str]
_Value = TypeVar("_Value", bound=Wire)


@dataclass(frozen=True)
class PoolIndex:
    """Slices by pool, and which pools may reach a node, so that one node costs no look at all the others."""

    members: Mapping[PoolId, tuple[Slice, ...]]
    of_node: Mapping[str, frozenset[PoolId]]
    of_any: frozenset[PoolId]

    @classmethod
    def of(cls, slices: Iterable[Slice]) -> PoolIndex:
        """Sort slices."""
        members: dict[PoolId, list[Slice]] = defaultdict(list)
        of_node: dict[str, set[PoolId]] = defaultdict(set)
        of_any: set[PoolId] = set()
        for one in slices:
            pool = one.spec.driver, one.spec.pool.name
            members[pool].append(one)
            (of_node[one.spec.node_name] if one.spec.node_name else of_any).add(pool)
        return cls(
            {pool: tuple(found) for pool, found in members.items()},
            {node: frozenset(pools) for node, pools in of_node.items()},
            frozenset(of_any),
        )

    def near(self, node: str) -> Iterable[tuple[Slice, ...]]:
        """The slices of each pool that may reach the node."""
        return (self.members[pool] for pool in self.of_node.get(node, frozenset()) | self.of_any)


@dataclass(frozen=True)
class State:
    """What is known. `nodes` may be empty: then the nodes are those that slices name."""

    slices: tuple[Slice, ...] = ()
    classes: Mapping[str, DeviceClass] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    nodes: tuple[Node, ...] = ()
    taint_rules: tuple[TaintRule, ...] = ()

    @cached_property
    def pools(self) -> PoolIndex:
        """The slices by pool and by node."""
        return PoolIndex.of(self.slices)

    def without(self, *paths: str) -> State:
        """The state as if those claims (`namespace/name`) had been deleted."""
        return replace(self, claims=tuple(claim for claim in self.claims if claim.path not in paths))

    def places(self) -> tuple[Node, ...]:
        """The nodes to consider, in order of their names."""
        known = {node.metadata.name: node for node in self.nodes}
        if not known:
            names = {wire.spec.node_name for wire in self.slices if wire.spec.node_name}
            known = {name: Node(metadata=Metadata(name=name)) for name in names}
        return tuple(known[name] for name in sorted(known))


@dataclass(frozen=True)
class Taken:
    """What allocations hold: whole devices, shares, and the sums of what shares consume."""

    devices: frozenset[CardId]
    shared: frozenset[CardId]
    consumed: Mapping[CardId, Mapping[str, Number]]

    @classmethod
    def by(cls, claims: Iterable[Claim]) -> Taken:
        """Add up; a result with admin access holds nothing (as in the scheduler's own count)."""
        devices: set[CardId] = set()
        shared: set[CardId] = set()
        consumed: dict[CardId, dict[str, Number]] = {}
        for result in (result for claim in claims for result in claim.results if not result.admin_access):
            if result.share_id is None:
                devices.add(result.card)
                continue
            shared.add(result.card)
            if result.consumed_capacity is not None:
                sums = consumed.setdefault(result.card, {})
                for name, amount in result.consumed_capacity.items():
                    sums[name] = sums.get(name, 0) + amount
        return cls(frozenset(devices), frozenset(shared), consumed)


def parse_state(objects: Iterable[Mapping[str, Any]]) -> State:
    """Sort objects by kind, lists of them too; kinds that do not matter are passed over. Raises ObjectRejected."""
    flat = tuple(flatten(objects))
    classes = (_read(DeviceClass, wire) for wire in flat if wire.get("kind") == "DeviceClass")
    return State(
        slices=tuple(_read(Slice, wire) for wire in flat if wire.get("kind") == "ResourceSlice"),
        classes={one.metadata.name: one for one in classes},
        claims=tuple(parse_claim(wire) for wire in flat if wire.get("kind") == "ResourceClaim"),
        nodes=tuple(_read(Node, wire) for wire in flat if wire.get("kind") == "Node"),
        taint_rules=tuple(_read(TaintRule, wire) for wire in flat if wire.get("kind") == "DeviceTaintRule"),
    )


def asks_for(driver: str, claim: Claim, classes: Mapping[str, DeviceClass]) -> bool:
    """Whether a claim has a card of the driver, or names a class that could give one."""
    if claim.results:
        return any(result.driver == driver for result in claim.results)
    asks = [ask for one in claim.spec.devices.requests for ask in (one.exactly, *one.first_available) if ask]
    return any(_gives(driver, ask.device_class_name, classes.get(ask.device_class_name)) for ask in asks)


def _gives(driver: str, name: str, one: DeviceClass | None) -> bool:
    """Whether a class may be of the driver; one that does not exist (yet) is judged by its name."""
    if one is None:
        return driver in name
    selectors = one.spec.selectors
    return not selectors or any(driver in selector.cel.expression for selector in selectors if selector.cel)


def parse_claim(wire: Mapping[str, Any]) -> Claim:
    """Read a claim. Raises ObjectRejected with the field's path."""
    return _read(Claim, wire)


def flatten(objects: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Open lists, as `kubectl get a,b -o yaml` and the API write them."""
    for wire in objects:
        kind = str(wire.get("kind", ""))
        if not kind.endswith("List"):
            yield wire
            continue
        # Items of a typed list do not name their kind; those of a plain List do.
        named = {"kind": kind.removesuffix("List")} if kind != "List" else {}
        yield from flatten({**named, **item} for item in wire.get("items") or ())


def _read(model: type[_Value], wire: Mapping[str, Any]) -> _Value:
    try:
        return model.model_validate(wire)
    except ValidationError as error:
        first = error.errors()[0]
        metadata = wire.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
        raise ObjectRejected(
            f"{wire.get('kind', model.__name__)} {name}", dotted(first["loc"]), first["msg"]
        ) from error
