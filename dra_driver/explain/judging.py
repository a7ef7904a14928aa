"""Holds one card against one request: which of the allocator's checks refuse it, in the allocator's order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from dra_driver.explain.amounts import NotRepresentable, breaks_policy, consumed, write
from dra_driver.explain.objects import Ask, AttributeValue, Capacity, Constraint, DeviceClass, Number, Selector
from dra_driver.explain.pools import Card, Pool, draws
from dra_driver.explain.reasons import Code, Reason
from dra_driver.explain.selectors import Answer, judge
from dra_driver.explain.state import Taken

_BLOCKING = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True)
class Wanted:
    """One request, or one alternative of it, with its class; `name` is `request` or `request/alternative`."""

    name: str
    ask: Ask
    device_class: DeviceClass


def refusals(
    wanted: Wanted, card: Card, pool: Pool, taken: Taken, constraints: tuple[Constraint, ...]
) -> Iterator[Reason]:
    """All reasons against the card, the allocator's first one first; a selector stops at its first no."""
    if not wanted.ask.admin_access and card.id in taken.devices:
        yield Reason(Code.IN_USE)
    selected = selection(wanted, card)
    if selected is not None:
        yield selected
    yield from _capacity(wanted.ask, card, taken.consumed.get(card.id, {}))
    if not (card.shared and card.id in taken.shared):
        yield from _counters(card, pool)
    taint = blocking_taint(wanted.ask, card)
    if taint is not None:
        yield taint
    for constraint in constraints:
        name = constraint.match_attribute or constraint.distinct_attribute or ""
        if concerns(constraint, wanted.name) and attribute_of(card, name) is None:
            yield Reason(Code.ATTRIBUTE_MISSING, {"attribute": name})


def selection(wanted: Wanted, card: Card) -> Reason | None:
    """Why the class's or the request's selectors do not select the card; None when they do."""
    sources = (
        (wanted.device_class.spec.selectors, Code.CLASS_SELECTOR, f"class {wanted.device_class.metadata.name}"),
        (wanted.ask.selectors, Code.REQUEST_SELECTOR, f"request {wanted.name}"),
    )
    for selectors, code, owner in sources:
        for index, selector in enumerate(selectors):
            reason = _selector(selector, index, code, owner, wanted, card)
            if reason is not None:
                return reason
    return None


def _selector(selector: Selector, index: int, code: Code, owner: str, wanted: Wanted, card: Card) -> Reason | None:
    where: Mapping[str, str | int] = {"index": index, "owner": owner}
    if selector.cel is None:
        return Reason(Code.SELECTOR_UNKNOWN, {**where, "why": "it is no CEL expression"})
    expression = selector.cel.expression
    judged = judge(expression, card)
    if judged.answer is Answer.YES:
        return None
    if judged.answer is Answer.ERROR:
        return Reason(Code.SELECTOR_ERROR, {**where, "error": judged.why})
    if judged.answer is Answer.UNKNOWN:
        return Reason(Code.SELECTOR_UNKNOWN, {**where, "why": judged.why})
    return Reason(code, {"index": index, "class": wanted.device_class.metadata.name, "expression": expression})


def fits_capacity(ask: Ask, card: Card, held: Mapping[str, Number]) -> bool:
    """Whether the request fits beside what is held. Raises NotRepresentable."""
    if ask.capacity.requests.keys() - card.device.capacity.keys():
        return False
    takes = amounts(ask, card)
    return not any(
        breaks_policy(takes[name], capacity.request_policy) or held.get(name, 0) + takes[name] > capacity.value
        for name, capacity in card.device.capacity.items()
    )


def amounts(ask: Ask, card: Card) -> dict[str, Number]:
    """What a share of this card for this request takes of each capacity. Raises NotRepresentable."""
    return {name: consumed(ask.capacity.requests.get(name), one) for name, one in card.device.capacity.items()}


def _capacity(ask: Ask, card: Card, held: Mapping[str, Number]) -> Iterator[Reason]:
    for name in sorted(ask.capacity.requests.keys() - card.device.capacity.keys()):
        yield Reason(Code.CAPACITY_MISSING, {"capacity": name})
    for name, capacity in sorted(card.device.capacity.items()):
        asked = ask.capacity.requests.get(name)
        try:
            takes = consumed(asked, capacity)
        except NotRepresentable as error:
            yield Reason(Code.NOT_REPRESENTABLE, {"capacity": name, "problem": str(error)})
            continue
        free = capacity.value - held.get(name, 0)
        words = {
            "capacity": name,
            "asked": "nothing" if asked is None else write(asked),
            "rounded": write(takes),
            "free": write(max(free, 0)),
            "total": write(capacity.value),
            "short": write(takes - max(free, 0)),
        }
        code = _capacity_code(name, takes, free, capacity)
        if code is not None:
            yield Reason(code, words, Fraction(takes - free) / Fraction(capacity.value or 1))


def _capacity_code(name: str, takes: Number, free: Number, capacity: Capacity) -> Code | None:
    if takes > capacity.value:
        return Code.CAPACITY_TOO_SMALL
    if breaks_policy(takes, capacity.request_policy):
        return Code.CAPACITY_NOT_ALLOWED
    if takes > free:
        return Code.SHARES_USED_UP if name.rpartition("/")[2] == "shares" and free <= 0 else Code.CAPACITY_SHORT
    return None


def _counters(card: Card, pool: Pool) -> Iterator[Reason]:
    for (group, name), asked in draws(card.device):
        free = max(pool.counters.get((group, name), 0), 0)
        if asked > free:
            words = {"asked": write(asked), "free": write(free), "short": write(asked - free)}
            yield Reason(Code.COUNTERS_SHORT, {"counter": f"{group}/{name}", **words})


def blocking_taint(ask: Ask, card: Card) -> Reason | None:
    """The first taint that keeps the request away."""
    for taint in card.taints:
        if taint.effect in _BLOCKING and not any(toleration.covers(taint) for toleration in ask.tolerations):
            value = f"={taint.value}" if taint.value else ""
            return Reason(Code.TAINTED, {"taint": f"{taint.key}{value}:{taint.effect}", "key": taint.key})
    return None


def concerns(constraint: Constraint, name: str) -> bool:
    """Whether a constraint speaks of the request `request` or `request/alternative`."""
    return not constraint.requests or name in constraint.requests or name.partition("/")[0] in constraint.requests


def attribute_of(card: Card, qualified: str) -> AttributeValue | None:
    """An attribute by its full name; names without a domain belong to the driver's."""
    found = card.device.attributes.get(qualified)
    domain, _, name = qualified.partition("/")
    if found is None and domain == card.driver:
        found = card.device.attributes.get(name)
    return found.value if found else None
