"""From what a container asks for to the claim that gives it: one request for each card, named after its kind.

HAMi gives a container that asks for several cards as many different ones. A single request with a count does not
promise that where cards can be allocated several times, so each card has a request, and a constraint keeps them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dra_driver.api.vgpuconfig import API_VERSION, KIND
from dra_driver.errors import ObjectRejected
from dra_driver.kube.quantities import binary
from dra_driver.migration.asking import MOST_CARDS, Ask
from dra_driver.migration.choosing import selectors
from dra_driver.migration.conventions import DEFAULT, NUMA_BIND, Convention
from dra_driver.migration.portions import Band, bands
from dra_driver.migration.template import (
    MOST_SUBREQUESTS,
    CapacityAsk,
    Cel,
    Config,
    Constraint,
    Devices,
    Exactly,
    Opaque,
    Request,
    Selector,
    SubRequest,
    TemplateSpec,
)

_MEBIBYTE = 1 << 20
_NUMA_NODE = "resource.kubernetes.io/numaNode"


@dataclass(frozen=True)
class Context:
    """What a mapping depends on beside the pod.

    `card_sizes` are the sizes in bytes of the cards of each vendor that the cluster publishes for sharing.
    """

    driver: str = "vgpu.hami.io"
    conventions: tuple[Convention, ...] = DEFAULT
    card_sizes: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def device_class(self, vendor: str) -> str:
        """The class of a vendor's cards."""
        return f"{vendor}.{self.driver}"


def request_names(ask: Ask) -> tuple[str, ...]:
    """The names of an ask's requests: `gpu`, or `gpu-0`, `gpu-1` where there are several."""
    name = ask.convention.request
    return (name,) if ask.count == 1 else tuple(f"{name}-{number}" for number in range(ask.count))


def claim_for(
    asks: Sequence[Ask], annotations: Mapping[str, str], context: Context, *, subject: str, path: str
) -> tuple[TemplateSpec, tuple[str, ...]]:
    """Make the claim of a container, with warnings about what is not quite as asked. Raises ObjectRejected."""
    requests: list[Request] = []
    constraints: list[Constraint] = []
    config: list[Config] = []
    warnings: list[str] = []
    if (cards := sum(ask.count for ask in asks)) > MOST_CARDS:
        raise ObjectRejected(subject, path, f"asks for {cards} cards, and a claim can hold {MOST_CARDS}")
    for ask in asks:
        names = request_names(ask)
        conditions = selectors(ask.convention, annotations, driver=context.driver, subject=subject)
        exactly, alternatives, warned = _ways(ask, conditions, context, subject=subject, path=path)
        requests += [Request(name=name, exactly=exactly, first_available=alternatives) for name in names]
        constraints += _constraints(names, annotations, context.driver)
        config += _config(ask, names, context.driver)
        warnings += warned
    devices = Devices(requests=tuple(requests), constraints=tuple(constraints), config=tuple(config))
    return TemplateSpec(devices=devices), tuple(warnings)


def _ways(
    ask: Ask, conditions: tuple[str, ...], context: Context, *, subject: str, path: str
) -> tuple[Exactly | None, tuple[SubRequest, ...], tuple[str, ...]]:
    """How one card can be had: in one way, or (for a percentage where cards differ) in one for each size."""
    device_class = context.device_class(ask.convention.vendor)
    if ask.percentage is None:
        capacity = _capacity(ask, None if ask.mebibytes is None else ask.mebibytes * _MEBIBYTE)
        chosen = _selectors(conditions)
        return Exactly(device_class_name=device_class, selectors=chosen, capacity=capacity), (), ()
    sizes = context.card_sizes.get(ask.convention.vendor, frozenset())
    if not sizes:
        raise ObjectRejected(
            *(subject, f"{path}.resources[{ask.convention.percentage}]"),
            f"{ask.percentage} % cannot be told in bytes, as no sizes of {ask.convention.vendor} cards are known; "
            f"ask for an amount ({ask.convention.memory}), or try again when the cards are published",
        )
    found = bands(sizes, most=MOST_SUBREQUESTS)
    memory = f'device.capacity["{context.driver}"].memory'
    ways = tuple(
        SubRequest(
            name=f"of-{band.smallest // _MEBIBYTE}mi",
            device_class_name=device_class,
            selectors=_selectors((*conditions, band.condition(memory))),
            capacity=_capacity(ask, band.portion(ask.percentage)),
        )
        for band in found
    )
    warnings = tuple(_joined(path, ask, band) for band in found if not band.exact)
    if len(ways) == 1:
        (only,) = ways
        return Exactly(**{name: getattr(only, name) for name in Exactly.model_fields}), (), warnings
    return None, ways, warnings


def _joined(path: str, ask: Ask, band: Band) -> str:
    portion = binary(band.portion(ask.percentage or 0))
    return (
        f"{path}: on cards from {binary(band.smallest)} to {binary(band.largest)} the share is {portion}, "
        f"{ask.percentage} % of the smallest of them: the cluster has more sizes than a claim can list"
    )


def _selectors(conditions: tuple[str, ...]) -> tuple[Selector, ...]:
    return tuple(Selector(cel=Cel(expression=condition)) for condition in conditions)


def _capacity(ask: Ask, memory: int | None) -> CapacityAsk | None:
    """Amounts of one card; memory that is not asked for is all of it."""
    amounts: dict[Literal["memory", "cores"], str] = {}
    if memory is not None:
        amounts["memory"] = binary(memory)
    if ask.cores or memory is not None:
        # Written out even where it is nothing: quotas count only what is written.
        amounts["cores"] = str(ask.cores)
    return CapacityAsk(requests=amounts) if amounts else None


def _constraints(names: tuple[str, ...], annotations: Mapping[str, str], driver: str) -> tuple[Constraint, ...]:
    if len(names) == 1:
        return ()
    apart = Constraint(requests=names, distinct_attribute=f"{driver}/uuid")
    if annotations.get(NUMA_BIND, "").lower() not in ("1", "t", "true"):
        return (apart,)
    return apart, Constraint(requests=names, match_attribute=_NUMA_NODE)


def _config(ask: Ask, names: tuple[str, ...], driver: str) -> tuple[Config, ...]:
    chosen = {"priority": ask.priority, "computePolicy": ask.compute_policy}
    chosen = {name: value for name, value in chosen.items() if value}
    if not chosen:
        return ()
    parameters = {"apiVersion": API_VERSION, "kind": KIND, **chosen}
    return (Config(requests=names, opaque=Opaque(driver=driver, parameters=parameters)),)
