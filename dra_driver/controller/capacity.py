"""How much of the cluster's cards is allocated and free, by node and model, for Prometheus.

Figures of the cluster and not of a process: shown by the replica that leads alone, so that a sum over all replicas is
right. They are added up when they are asked for; what is kept is no more than a line for each device and each result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dra_driver.controller.observing import Change, Kind
from dra_driver.errors import ObjectRejected
from dra_driver.explain.objects import Capacity, Device, Slice
from dra_driver.explain.state import CardId, parse_state
from dra_driver.kube.claims import Result, parse_claim

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LABELS = ("node", "vendor", "model")
_TAKES_NOTHING_NEW = ("NoSchedule", "NoExecute")
_MEANINGS = {
    "vgpu_node_devices": "Devices that are published: cards, or slots of cards.",
    "vgpu_node_devices_tainted": "Of those, devices that take no new work for a taint that they were published with.",
    "vgpu_node_memory_bytes": "Memory of the devices.",
    "vgpu_node_memory_allocated_bytes": "Of that, allocated to claims.",
    "vgpu_node_memory_free_bytes": "Memory of untainted devices that is not allocated.",
    "vgpu_node_cores_allocated_ratio": "Compute of the devices that is reserved for claims.",
    "vgpu_node_allocations": "Devices and shares of devices that claims have.",
}

Group = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Card:
    """A device as far as it counts: bytes, and percent of a card's compute."""

    id: CardId
    group: Group
    memory: float
    cores: float
    tainted: bool


@dataclass(frozen=True, slots=True)
class _Published:
    """The devices of a slice, which stand if the pool has no newer generation."""

    pool: tuple[str, str]
    generation: int
    cards: tuple[_Card, ...]


@dataclass(slots=True)
class _Sums:
    """What a group of devices comes to."""

    devices: int = 0
    tainted: int = 0
    memory: float = 0.0
    allocated: float = 0.0
    free: float = 0.0
    cores: float = 0.0
    cores_allocated: float = 0.0
    allocations: int = 0


class ClusterCapacity(Collector):
    """Observer, and collector of its figures."""

    kinds = frozenset({Kind.SLICES, Kind.CLAIMS})

    def __init__(self, registry: CollectorRegistry, *, driver: str, leads: Callable[[], bool]) -> None:
        self._driver = driver
        self._leads = leads
        self._slices: dict[str, _Published] = {}
        self._held: dict[str, tuple[Result, ...]] = {}
        registry.register(self)

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """See Observer."""
        known: dict[str, Any] = self._slices if kind is Kind.SLICES else self._held
        uid = str(wire["metadata"]["uid"])
        known.pop(uid, None)
        if change is Change.DELETED:
            return
        try:
            found = self._published(wire) if kind is Kind.SLICES else self._results(wire)
        except ObjectRejected as error:
            log.warning("object_not_counted", error=str(error))
            return
        if found:
            known[uid] = found

    async def act(self) -> None:
        """See Observer: there is nothing to do."""

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: the registry would ask for all series at once."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Tell the figures now; none on a replica that does not lead."""
        if not self._leads():
            return
        families = {name: GaugeMetricFamily(name, meaning, labels=_LABELS) for name, meaning in _MEANINGS.items()}
        for group, sums in sorted(self._sums().items()):
            for name, value in _figures(sums).items():
                families[name].add_metric(group, value)
        yield from families.values()

    def _published(self, wire: Mapping[str, Any]) -> _Published | None:
        (one,) = parse_state([{**wire, "kind": "ResourceSlice"}]).slices
        spec = one.spec
        if spec.driver != self._driver:
            return None
        cards = tuple(self._card(one, device) for device in spec.devices)
        return _Published((spec.driver, spec.pool.name), spec.pool.generation, cards)

    def _card(self, one: Slice, device: Device) -> _Card:
        words = {name.removeprefix(f"{self._driver}/"): value for name, value in device.attributes.items()}
        node = device.node_name or one.spec.node_name or ""
        vendor, model = (value.string or "" if (value := words.get(name)) else "" for name in ("vendor", "model"))
        return _Card(
            (self._driver, one.spec.pool.name, device.name),
            (node, vendor, model),
            _value(device.capacity, "memory"),
            _value(device.capacity, "cores"),
            any(taint.effect in _TAKES_NOTHING_NEW for taint in device.taints),
        )

    def _results(self, wire: Mapping[str, Any]) -> tuple[Result, ...]:
        if not (wire.get("status") or {}).get("allocation"):
            return ()
        return tuple(result for result in parse_claim(dict(wire)).results or () if result.driver == self._driver)

    def _sums(self) -> Mapping[Group, _Sums]:
        taken = defaultdict[CardId, list[Result]](list)
        for results in self._held.values():
            for result in results:
                taken[result.driver, result.pool, result.device].append(result)
        groups = defaultdict[Group, _Sums](_Sums)
        for card in self._cards():
            _add(groups[card.group], card, taken.get(card.id, ()))
        return groups

    def _cards(self) -> Iterator[_Card]:
        newest: dict[tuple[str, str], int] = {}
        for one in self._slices.values():
            newest[one.pool] = max(newest.get(one.pool, 0), one.generation)
        for one in self._slices.values():
            if one.generation == newest[one.pool]:
                yield from one.cards


def _add(sums: _Sums, card: _Card, results: Iterable[Result]) -> None:
    memory = cores = 0.0
    for result in results:
        sums.allocations += 1
        whole = result.consumed is None
        memory += card.memory if whole else (result.consumed or {}).get("memory", 0)
        cores += card.cores if whole else (result.consumed or {}).get("cores", 0)
    sums.devices += 1
    sums.tainted += card.tainted
    sums.memory += card.memory
    sums.allocated += memory
    sums.free += 0.0 if card.tainted else max(0.0, card.memory - memory)
    sums.cores += card.cores
    sums.cores_allocated += cores


def _figures(sums: _Sums) -> Mapping[str, float]:
    figures = {
        "vgpu_node_devices": float(sums.devices),
        "vgpu_node_devices_tainted": float(sums.tainted),
        "vgpu_node_memory_bytes": sums.memory,
        "vgpu_node_memory_allocated_bytes": sums.allocated,
        "vgpu_node_memory_free_bytes": sums.free,
        "vgpu_node_allocations": float(sums.allocations),
    }
    # Where no device says how much compute it has, there is no ratio.
    return {**figures, "vgpu_node_cores_allocated_ratio": sums.cores_allocated / sums.cores} if sums.cores else figures


def _value(capacity: Mapping[str, Capacity], name: str) -> float:
    found = capacity.get(name)
    return float(found.value) if found else 0.0
