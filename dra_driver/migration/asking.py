"""What a container asks HAMi for, read from its resources: the amounts, and which meaning what is left out has.

HAMi reads a limit before a request; an amount of memory wins over a percentage; no memory at all is all of the card.
Source: github.com/Project-HAMi/HAMi 4707fb0, GenerateResourceRequests and MutateAdmission in pkg/device/*/device.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dra_driver.errors import ObjectRejected
from dra_driver.kube.quantities import exact
from dra_driver.migration.conventions import ASCEND, CORE_POLICY, DISABLED, FOREIGN, Convention

_MOST_MEBIBYTES = (1 << 31) - 1
# What one claim can hold.
MOST_CARDS = 32
_ALL_CORES = 100
_POLICIES = {"force": "fixed", "disable": "shared"}
_ASCEND_CORES = frozenset(one.cores for one in ASCEND)


@dataclass(frozen=True)
class Ask:
    """Cards of one vendor for one container, each with the same share.

    `mebibytes` and `percentage` (of the card's memory) are exclusive; without either the whole card is meant. `cores`
    is in percent, 0 meaning neither reserved nor capped. `priority` and `compute_policy` are empty where the class
    decides.
    """

    convention: Convention
    count: int
    mebibytes: int | None
    percentage: int | None
    cores: int
    priority: str = ""
    compute_policy: str = ""

    @property
    def whole(self) -> bool:
        """Whether it means a card with nobody else on it."""
        return self.mebibytes is None and self.percentage is None


@dataclass(frozen=True)
class Asked:
    """What a container asks for; which resources said so (to be taken away), and what is not meant as it looks."""

    asks: tuple[Ask, ...] = ()
    resources: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Resources:
    """A container's amounts, whichever of limits and requests they stand in."""

    subject: str
    path: str
    limits: Mapping[str, Any]
    requests: Mapping[str, Any]

    def named(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.limits, *self.requests)))

    def text(self, name: str) -> str:
        return str(self.limits.get(name, self.requests.get(name)))

    def rejected(self, name: str, problem: str) -> ObjectRejected:
        section = "limits" if name in self.limits else "requests"
        return ObjectRejected(self.subject, f"{self.path}.resources.{section}[{name}]", problem)

    def number(self, name: str, *, most: int) -> int | None:
        """The amount, or None where it is not named. Raises ObjectRejected."""
        if not name or (name not in self.limits and name not in self.requests):
            return None
        texts = {str(section[name]) for section in (self.limits, self.requests) if name in section}
        try:
            amounts = {exact(text) for text in texts}
        except ValueError as error:
            raise self.rejected(name, str(error)) from error
        if len(amounts) > 1:
            raise self.rejected(name, f"limit and request must be equal, not {' and '.join(sorted(texts))}")
        (amount,) = amounts
        if amount.denominator != 1 or not 0 <= amount <= most:
            raise self.rejected(name, f"{self.text(name)!r} must be a whole number from 0 to {most}")
        return int(amount)


def asked_by(container: Mapping[str, Any], conventions: Sequence[Convention], *, subject: str, path: str) -> Asked:
    """Read a container. `path` is where it stands in the object called `subject`. Raises ObjectRejected."""
    wire = container.get("resources") or {}
    resources = _Resources(subject, path, wire.get("limits") or {}, wire.get("requests") or {})
    named = resources.named()
    ours = {name: resources.text(name) for one in conventions for name in one.names if name in named}
    if not ours:
        return Asked()
    environment = _environment(container)
    warnings: list[str] = []
    asks = tuple(
        ask
        for convention in conventions
        if any(name in ours for name in convention.names)
        for ask in _asks(resources, convention, environment, warnings)
    )
    for foreign in (name for name in named if name.startswith(FOREIGN)):
        raise resources.rejected(foreign, f"cannot be had beside {', '.join(ours)}: no backend serves it here")
    if asks:
        warnings += _doubts(container, path, environment)
    return Asked(asks, ours, tuple(warnings))


def foreign_resources(container: Mapping[str, Any]) -> tuple[str, ...]:
    """Resources of vendors that HAMi serves and nobody here does."""
    wire = container.get("resources") or {}
    named = dict.fromkeys((*(wire.get("limits") or {}), *(wire.get("requests") or {})))
    return tuple(name for name in named if name.startswith(FOREIGN))


def _asks(
    resources: _Resources, convention: Convention, environment: Mapping[str, str], warnings: list[str]
) -> Iterator[Ask]:
    most_memory = _MOST_MEBIBYTES // convention.memory_factor
    memory = resources.number(convention.memory, most=most_memory)
    percentage = resources.number(convention.percentage, most=100)
    cores = resources.number(convention.cores, most=1000)
    priority = resources.number(convention.priority, most=1000)
    count = resources.number(convention.count, most=MOST_CARDS)
    if count is None and not any(amount is not None for amount in (memory, percentage, cores)):
        count = 0
    count = convention.implied_count if count is None else count
    if count == 0:
        idle = [name for name in convention.names if name in resources.named() and name != convention.count]
        warnings += [f"{resources.path}: {', '.join(idle)} without {convention.count} asks for nothing"] if idle else []
        return
    if cores and convention.cores in _ASCEND_CORES:
        raise resources.rejected(convention.cores, "is for Ascend cards divided by software, which none here are")
    mebibytes = (memory or convention.default_memory if not percentage or memory else 0) * convention.memory_factor
    if convention.largest_part and mebibytes > convention.largest_part:
        mebibytes = 0
    part = percentage if percentage and percentage < 100 and not mebibytes else None
    yield Ask(
        convention,
        count,
        mebibytes or None,
        part,
        _cores(resources, convention, cores, exclusive=not mebibytes and part is None, warnings=warnings),
        _priority(resources, convention, priority, warnings),
        _POLICIES.get(environment.get(CORE_POLICY, ""), ""),
    )


def _cores(
    resources: _Resources, convention: Convention, cores: int | None, *, exclusive: bool, warnings: list[str]
) -> int:
    if exclusive:
        return _ALL_CORES
    if cores is None:
        return convention.default_cores
    if cores > _ALL_CORES:
        warnings.append(f"{resources.path}: {convention.cores} {cores} is taken as {_ALL_CORES}, all of a card")
    if cores >= _ALL_CORES:
        warnings.append(
            f"{resources.path}: all compute and part of the memory keeps shares that reserve compute off the card, "
            "but not those that reserve none; ask for all memory to have it alone"
        )
    return min(cores, _ALL_CORES)


def _priority(resources: _Resources, convention: Convention, priority: int | None, warnings: list[str]) -> str:
    """HAMi has 0 (high) and 1 (low), and takes everything above for low."""
    if priority is None:
        return ""
    if priority > 1:
        warnings.append(f"{resources.path}: {convention.priority} {priority} is taken as 1 (low); there are 0 and 1")
    return "low" if priority else "high"


def _environment(container: Mapping[str, Any]) -> Mapping[str, str]:
    return {str(one.get("name")): str(one.get("value", "")) for one in container.get("env") or ()}


def _doubts(container: Mapping[str, Any], path: str, environment: Mapping[str, str]) -> Iterator[str]:
    if environment.get(DISABLED, "").lower() in ("1", "t", "true"):
        yield f"{path}: {DISABLED} has no effect: limits are enforced on every share"
    policy = environment.get(CORE_POLICY, "")
    if policy not in ("", "default", *_POLICIES):
        yield f"{path}: {CORE_POLICY} {policy!r} is unknown and has no effect"
    if (container.get("securityContext") or {}).get("privileged"):
        yield f"{path}: a privileged container can reach every card of its node, whatever its limits"
