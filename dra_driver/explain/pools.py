"""Which cards a node can reach: slices gathered into pools as the allocator does it, in its order.

The allocator takes the first card that fits, so the order (pools by driver and name, slices by name) decides.
Source: pools_incubating.go of k8s.io/dynamic-resource-allocation/structured (1.37).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dra_driver.explain.objects import CounterSet, Device, Expression, Node, NodeSelector, Number, Slice, Taint
from dra_driver.explain.state import CardId, State, Taken


@dataclass(frozen=True)
class Card:
    """A device that a node can reach. `here` is False for one of its slice that another node must use."""

    driver: str
    pool: str
    device: Device
    taints: tuple[Taint, ...]
    here: bool = True

    @property
    def id(self) -> CardId:
        """Driver, pool and device."""
        return self.driver, self.pool, self.device.name

    @property
    def shared(self) -> bool:
        """Whether several claims may have a share of it."""
        return bool(self.device.allow_multiple_allocations)


@dataclass(frozen=True)
class Pool:
    """The cards of one pool. An incomplete or invalid one gives none away."""

    driver: str
    name: str
    cards: tuple[Card, ...] = ()
    slices: int = 0
    expected: int = 0
    invalid: str = ""
    counters: Mapping[tuple[str, str], Number] = field(default_factory=dict)
    binding: bool = False

    @property
    def incomplete(self) -> bool:
        """Whether slices are missing."""
        return self.slices != self.expected

    @property
    def usable(self) -> bool:
        """Whether cards of it can be allocated."""
        return not self.incomplete and not self.invalid


def gather(state: State, node: Node, taken: Taken) -> tuple[Pool, ...]:
    """All pools with devices for the node, in the allocator's order."""
    pools = [_pool(state, members, node, taken) for members in state.pools.near(node.metadata.name)]
    return tuple(sorted((pool for pool in pools if pool), key=lambda pool: (pool.binding, pool.driver, pool.name)))


def _pool(state: State, members: Sequence[Slice], node: Node, taken: Taken) -> Pool | None:
    members = sorted(members, key=lambda one: one.metadata.name)
    near = [one for one in members if _usable(one) and _reaches(one, node)]
    if not near:
        return None
    generation = max(one.spec.pool.generation for one in near)
    near = [one for one in near if one.spec.pool.generation == generation]
    expected = near[0].spec.pool.resource_slice_count
    spec = near[0].spec
    if len(near) != expected:
        if any(one.spec.pool.generation > generation for one in members):
            return None
        whole = [one for one in members if one.spec.pool.generation == generation and _usable(one)]
    else:
        whole = list(near)
    if len(whole) != expected:
        return Pool(spec.driver, spec.pool.name, slices=len(whole), expected=expected)
    cards = tuple(_card(state, one, device, node) for one in near for device in _devices(one))
    return Pool(
        *(spec.driver, spec.pool.name, cards, expected, expected),
        invalid=_invalid(near, whole),
        counters=_counters(whole, taken),
        binding=any(card.device.binding_conditions is not None for card in cards),
    )


def _usable(one: Slice) -> bool:
    """The allocator passes over slices with compatibility groups, whose gate is off by default."""
    return not any(device.compatibility_groups for device in one.spec.devices)


def _devices(one: Slice) -> tuple[Device, ...]:
    return () if one.spec.shared_counters else one.spec.devices


def _reaches(one: Slice, node: Node) -> bool:
    spec = one.spec
    if spec.node_name or spec.all_nodes or spec.node_selector is not None:
        return _matches(node, spec.node_name, spec.all_nodes, spec.node_selector)
    return bool(spec.per_device_node_selection) and any(_device_reaches(device, node) for device in spec.devices)


def _device_reaches(device: Device, node: Node) -> bool:
    return _matches(node, device.node_name, device.all_nodes, device.node_selector)


def _card(state: State, one: Slice, device: Device, node: Node) -> Card:
    identity = (one.spec.driver, one.spec.pool.name, device.name)
    ruled = tuple(rule.spec.taint for rule in state.taint_rules if rule.covers(*identity))
    here = not one.spec.per_device_node_selection or _device_reaches(device, node)
    return Card(one.spec.driver, one.spec.pool.name, device, device.taints + ruled, here)


def _invalid(near: list[Slice], whole: list[Slice]) -> str:
    names = [device.name for one in near for device in _devices(one)]
    if len(set(names)) != len(names):
        return "a device name appears twice"
    sets = [group for one in whole for group in one.spec.shared_counters]
    known = {group.name: group for group in sets}
    if len(known) != len(sets):
        return "a counter set appears twice"
    return _bad_counter((device for one in whole for device in _devices(one)), known)


def _bad_counter(devices: Iterable[Device], known: Mapping[str, CounterSet]) -> str:
    for device in devices:
        for use in device.consumes_counters:
            if use.counter_set not in known or set(use.counters) - set(known[use.counter_set].counters):
                return f"device {device.name} draws on a counter that does not exist"
    return ""


def _counters(whole: list[Slice], taken: Taken) -> Mapping[tuple[str, str], Number]:
    """What is left in each counter after what allocated devices draw."""
    left: dict[tuple[str, str], Number] = {}
    for group in (group for one in whole for group in one.spec.shared_counters):
        left.update({(group.name, name): counter.value for name, counter in group.counters.items()})
    for one in whole:
        for device in _devices(one):
            identity = (one.spec.driver, one.spec.pool.name, device.name)
            if identity in taken.devices or identity in taken.shared:
                for key, amount in draws(device):
                    left[key] = left.get(key, 0) - amount
    return left


def draws(device: Device) -> Iterable[tuple[tuple[str, str], Number]]:
    """What a device takes from counters: ((set, counter), amount)."""
    for use in device.consumes_counters:
        for name, counter in use.counters.items():
            yield (use.counter_set, name), counter.value


def _matches(node: Node, name: str | None, everywhere: bool | None, selector: NodeSelector | None) -> bool:
    if name:
        return name == node.metadata.name
    if everywhere:
        return True
    return selector is not None and selects(selector, node)


def selects(selector: NodeSelector, node: Node) -> bool:
    """Whether a selector matches a node."""
    fields = {"metadata.name": node.metadata.name}
    return any(
        (term.match_expressions or term.match_fields)
        and all(_holds(rule, node.metadata.labels) for rule in term.match_expressions)
        and all(_holds(rule, fields) for rule in term.match_fields)
        for term in selector.node_selector_terms
    )


def _holds(rule: Expression, labels: Mapping[str, str]) -> bool:
    value = labels.get(rule.key)
    if rule.operator == "In":
        return value in rule.values
    if rule.operator == "NotIn":
        return value is None or value not in rule.values
    if rule.operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (rule.operator == "Exists")
    try:
        difference = int(value or "") - int(rule.values[0])
    except (ValueError, IndexError):
        return False
    return difference > 0 if rule.operator == "Gt" else rule.operator == "Lt" and difference < 0
