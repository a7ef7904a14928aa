"""What the API server should hold of this node's cards, and how to get there from what it holds: pure.

The rules are those of Kubernetes' own helper for Go drivers: one pool generation, raised when the set or the size
of the slices changes; an exact slice count; an empty pool is one empty slice; deletions first, then updates,
then creations; nothing is written when nothing that we say has changed.
Source: k8s.io/dynamic-resource-allocation/resourceslice (1.37).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dra_driver.kube.connection import JsonObject
from dra_driver.kube.nodes import Node
from dra_driver.kube.quantities import binary, exact
from dra_driver.kube.slices import API_VERSION, KIND
from drivers.model import Capacity, Device, Mode, Range, Values

# A slice may hold 128 devices, but only half as many when one of them has a taint.
_DEVICES_PER_SLICE = 64
_LONGEST_STRING = 64
_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")
_UNHEALTHY = "unhealthy"
_DRAINING = "draining"
REQUEST_POLICY = "capacity.requestPolicy"
_TAINTS = "taints"

# Which feature gate of the API server keeps a field that is new.
GATES: Mapping[str, str] = {
    "allowMultipleAllocations": "DRAConsumableCapacity",
    REQUEST_POLICY: "DRAConsumableCapacity",
    _TAINTS: "DRADeviceTaints",
}
# What the node is like without it.
WITHOUT_GATE: Mapping[str, str] = {
    "DRAConsumableCapacity": "each device goes to one claim whole, whatever that asks for; cards.mode slots shares it",
    "DRADeviceTaints": "devices that take no new work are withdrawn instead of tainted, and NoExecute ends no pod",
}


class TaintEffect(StrEnum):
    """What a taint does: keep new pods away, or end those that are there too."""

    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


@dataclass(frozen=True)
class Pool:
    """All devices of one vendor on one node.

    `draining` names the devices that take no new work until their shares are gone; `effect` is what the taint of an
    unhealthy device does.
    """

    name: str
    driver: str
    node: str
    devices: tuple[Device, ...]
    draining: frozenset[str] = frozenset()
    effect: TaintEffect = TaintEffect.NO_SCHEDULE


@dataclass
class Changes:
    """What to write, in this order."""

    deletions: list[JsonObject] = field(default_factory=list)
    replacements: list[JsonObject] = field(default_factory=list)
    creations: list[JsonObject] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.deletions or self.replacements or self.creations)


def pool_name(node: str, vendor: str) -> str:
    """Name the pool of one vendor's cards on a node."""
    return f"{node}-{vendor}"


def changes(
    pool: Pool, owner: Node, current: Sequence[JsonObject], *, now: str, without: frozenset[str] = frozenset()
) -> Changes:
    """Tell what to write so that `current` (this pool's slices on the server) shows the pool.

    `owner` is the node's object, `now` the time for new taints, RFC 3339 in UTC. `without` names device fields
    that the server drops, as `dropped_fields` found them: what it will not keep is not compared, or the same
    would be written forever. Where it drops taints, a device that has one is left out: nothing else keeps pods away.
    """
    devices = wire_devices(pool, current, now=now)
    shown = [device for device in devices if not (_TAINTS in without and _TAINTS in device)]
    wanted = _chunks([_reduced(device, without) for device in shown])
    generations = [int(wire["spec"]["pool"]["generation"]) for wire in current]
    newest = max(generations, default=0)
    kept = sorted((wire for wire in current if _generation(wire) == newest), key=_name)
    stale = [wire for wire in current if _generation(wire) != newest]
    different = [index for index, devices in enumerate(wanted) if index < len(kept) and _differs(kept[index], devices)]
    if len(kept) == len(wanted) and not stale and len(different) <= 1 and _counts_right(kept):
        replacements = [_replaced(pool, kept[index], wanted[index], newest, len(wanted)) for index in different]
        return Changes(replacements=replacements)
    return _rewrite(pool, owner, kept, stale, wanted, newest + 1)


def wire_devices(pool: Pool, current: Sequence[JsonObject], *, now: str) -> list[JsonObject]:
    """Write the pool's devices as the API has them, in their order."""
    since = _taint_times(current)
    return [_wire_device(device, _taints(device, pool, since, now)) for device in pool.devices]


def dropped_fields(wanted: JsonObject, answer: JsonObject) -> frozenset[str]:
    """Name the device fields that were written and are not in the server's answer."""
    pairs = zip(wanted["spec"]["devices"], answer["spec"].get("devices") or [], strict=False)
    return frozenset(name for ours, theirs in pairs for name in _fields(ours) - _fields(theirs))


def _fields(device: JsonObject) -> set[str]:
    policies = {REQUEST_POLICY for capacity in device["capacity"].values() if "requestPolicy" in capacity}
    return {*device, *policies}


def _reduced(device: JsonObject, without: frozenset[str]) -> JsonObject:
    reduced = {name: part for name, part in device.items() if name not in without}
    if REQUEST_POLICY in without:
        reduced["capacity"] = {name: {"value": part["value"]} for name, part in device["capacity"].items()}
    return reduced


def _chunks(devices: list[JsonObject]) -> list[list[JsonObject]]:
    """Cut the devices into slices; none at all makes one empty slice."""
    starts = range(0, len(devices), _DEVICES_PER_SLICE) if devices else [0]
    return [devices[start : start + _DEVICES_PER_SLICE] for start in starts]


def _rewrite(
    pool: Pool,
    owner: Node,
    kept: list[JsonObject],
    stale: list[JsonObject],
    wanted: list[list[JsonObject]],
    generation: int,
) -> Changes:
    count = len(wanted)
    return Changes(
        deletions=[*stale, *kept[count:]],
        replacements=[
            _replaced(pool, wire, devices, generation, count) for wire, devices in zip(kept, wanted, strict=False)
        ],
        creations=[
            _created(pool, owner, index, devices, generation, count)
            for index, devices in enumerate(wanted)
            if index >= len(kept)
        ],
    )


def _created(pool: Pool, owner: Node, index: int, devices: list[JsonObject], generation: int, count: int) -> JsonObject:
    reference = {"apiVersion": "v1", "kind": "Node", "name": owner.name, "uid": owner.uid, "controller": True}
    # The allocator goes through slices by name: the index in front keeps our order.
    metadata = {"generateName": f"{index:02x}-{pool.driver}-{pool.node}-", "ownerReferences": [reference]}
    spec = _spec(pool, devices, generation, count)
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def _replaced(pool: Pool, current: JsonObject, devices: list[JsonObject], generation: int, count: int) -> JsonObject:
    return {**current, "apiVersion": API_VERSION, "kind": KIND, "spec": _spec(pool, devices, generation, count)}


def _spec(pool: Pool, devices: list[JsonObject], generation: int, count: int) -> JsonObject:
    return {
        "driver": pool.driver,
        "nodeName": pool.node,
        "pool": {"name": pool.name, "generation": generation, "resourceSliceCount": count},
        "devices": devices,
    }


def _wire_device(device: Device, taints: list[JsonObject]) -> JsonObject:
    wire: JsonObject = {
        "name": device.name,
        "attributes": device_attributes(device),
        "capacity": {
            "memory": _capacity(device.memory, binary),
            "cores": _capacity(device.cores, str),
            "shares": _capacity(device.shares, str),
        },
    }
    if device.mode is Mode.SHARED:
        wire["allowMultipleAllocations"] = True
    if taints:
        wire[_TAINTS] = taints
    return wire


def _taints(device: Device, pool: Pool, since: Mapping[tuple[str, str], str], now: str) -> list[JsonObject]:
    """List a device's taints. The value tells why in one word; the sentence is in the log and in the health stream."""
    told: list[tuple[str, str, TaintEffect]] = []
    if device.unhealthy:
        told.append((_UNHEALTHY, device.unhealthy_code or "true", pool.effect))
    if device.name in pool.draining:
        told.append((_DRAINING, "true", TaintEffect.NO_SCHEDULE))
    return [
        {
            "key": (key := f"{pool.driver}/{name}"),
            "value": value,
            "effect": effect.value,
            "timeAdded": since.get((device.name, key), now),
        }
        for name, value, effect in told
    ]


def device_attributes(device: Device) -> JsonObject:
    """Write a device's attributes, those that are known."""
    texts = {
        "vendor": device.vendor,
        "type": device.type.value,
        "model": device.model,
        "uuid": device.uuid,
        "architecture": device.architecture,
        "mode": device.mode.value,
        "memoryIsolation": device.memory_isolation.value,
        "computeControl": device.compute_control.value,
        "linkGroup": device.link_group,
        "resource.kubernetes.io/pciBusID": device.pci_bus_id,
        "resource.kubernetes.io/pcieRoot": device.pcie_root,
    }
    versions = {"driverVersion": device.driver_version, "runtimeVersion": device.runtime_version}
    attributes: JsonObject = {name: {"string": _cut(text)} for name, text in texts.items() if text}
    attributes |= {name: {"version": v} for name, text in versions.items() if (v := semantic_version(text))}
    attributes["index"] = {"int": device.index}
    if device.numa_node is not None:
        attributes["resource.kubernetes.io/numaNode"] = {"int": device.numa_node}
    return attributes


def _cut(text: str) -> str:
    """Shorten to the bytes that an attribute may have, between characters."""
    return text.encode()[:_LONGEST_STRING].decode(errors="ignore")


def semantic_version(text: str) -> str:
    """Write a vendor's version (`535.104.05`, `13.0`) as semver 2.0.0, or "" where there is none in it."""
    match = _VERSION.match(text)
    return ".".join(str(int(part or 0)) for part in match.groups()) if match else ""


def _capacity(capacity: Capacity, write: Callable[[int], str]) -> JsonObject:
    wire: JsonObject = {"value": write(capacity.value)}
    policy = capacity.policy
    if isinstance(policy, Range):
        wire["requestPolicy"] = {
            "default": write(policy.default),
            "validRange": {"min": write(policy.minimum), "max": write(policy.maximum), "step": write(policy.step)},
        }
    elif isinstance(policy, Values):
        wire["requestPolicy"] = {
            "default": write(policy.default),
            "validValues": [write(value) for value in policy.values],
        }
    return wire


def _taint_times(current: Sequence[JsonObject]) -> Mapping[tuple[str, str], str]:
    """Since when each tainted device has which taint: one that stays must keep its time."""
    return {
        (device["name"], taint["key"]): taint["timeAdded"]
        for wire in current
        for device in wire["spec"].get("devices") or []
        for taint in device.get(_TAINTS) or []
        if taint.get("timeAdded")
    }


def _differs(current: JsonObject, devices: list[JsonObject]) -> bool:
    return bool(_canonical(current["spec"].get("devices") or []) != _canonical(devices))


def _canonical(part: Any, name: str = "") -> Any:
    """Bring two spellings of one thing together: quantities by value, absent as empty."""
    if isinstance(part, dict):
        return {key: _canonical(value, key) for key, value in part.items() if value not in (None, {}, [])}
    if isinstance(part, list):
        return [_canonical(value, name) for value in part]
    if name in ("value", "default", "min", "max", "step", "validValues") and isinstance(part, str | int):
        try:
            return exact(str(part))
        except ValueError:
            return part
    return part


def _counts_right(kept: Sequence[JsonObject]) -> bool:
    return all(wire["spec"]["pool"]["resourceSliceCount"] == len(kept) for wire in kept)


def _generation(wire: JsonObject) -> int:
    return int(wire["spec"]["pool"]["generation"])


def _name(wire: JsonObject) -> str:
    return str(wire["metadata"]["name"])
