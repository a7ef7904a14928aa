"""The API server's rules for ResourceSlices, as far as this driver comes near them.

Source: k8s.io/kubernetes/pkg/apis/resource/validation/validation.go (1.37), in our own words. The twin of the API
server refuses by them, so that every test that publishes proves that what is published would be accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dra_driver.kube.quantities import whole

JsonObject = dict[str, Any]

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_LONGEST_TEXT = 64
_MOST_QUALITIES = 32
_MOST_VALUES = 10
_MOST_TAINTS = 16


def violations(wire: JsonObject) -> list[str]:
    """Name what the API server would refuse; nothing means that it accepts the slice."""
    spec = wire["spec"]
    found = []
    if len(spec["driver"]) > 63:
        found.append("spec.driver: longer than 63")
    if not spec["pool"]["resourceSliceCount"] > 0:
        found.append("spec.pool.resourceSliceCount: not positive")
    devices = spec.get("devices") or []
    most = 64 if any(device.get("taints") for device in devices) else 128
    if len(devices) > most:
        found.append(f"spec.devices: {len(devices)} are more than {most}")
    names = [device["name"] for device in devices]
    if len(set(names)) != len(names):
        found.append("spec.devices: a name twice")
    for index, device in enumerate(devices):
        found += [f"spec.devices[{index}].{problem}" for problem in _device(device)]
    return found


def _device(device: JsonObject) -> Iterator[str]:
    if not _LABEL.fullmatch(device["name"]):
        yield f"name: {device['name']!r} is not a DNS label"
    attributes, capacities = device.get("attributes", {}), device.get("capacity", {})
    if len(attributes) + len(capacities) > _MOST_QUALITIES:
        yield "attributes: too many"
    for name, value in attributes.items():
        yield from (f"attributes[{name}]: {problem}" for problem in _attribute(value))
    for name, capacity in capacities.items():
        if capacity.get("requestPolicy") and not device.get("allowMultipleAllocations"):
            yield f"capacity[{name}].requestPolicy: only with allowMultipleAllocations"
        yield from (f"capacity[{name}].requestPolicy: {problem}" for problem in _policy(capacity))
    if len(device.get("taints", [])) > _MOST_TAINTS:
        yield "taints: too many"
    for taint in device.get("taints", []):
        if taint["effect"] not in ("NoSchedule", "NoExecute", "None") or not taint["key"]:
            yield f"taints: {taint}"


def _attribute(value: JsonObject) -> Iterator[str]:
    if len(value) != 1:
        yield "not exactly one value"
    if "string" in value and len(value["string"].encode()) > _LONGEST_TEXT:
        yield "longer than 64 bytes"
    if "version" in value and not _SEMVER.fullmatch(value["version"]):
        yield f"{value['version']!r} is not a semantic version"


def _policy(capacity: JsonObject) -> Iterator[str]:
    policy, value = capacity.get("requestPolicy"), whole(capacity["value"])
    if not policy:
        return
    values, limits = policy.get("validValues"), policy.get("validRange")
    if values and limits:
        yield "both validValues and validRange"
    elif "default" not in policy:
        yield "no default"
    elif values:
        yield from _values(values, whole(policy["default"]))
    elif limits:
        yield from _range(limits, whole(policy["default"]), value)


def _values(values: list[str], default: int) -> Iterator[str]:
    sizes = [whole(text) for text in values]
    if len(sizes) > _MOST_VALUES or sizes != sorted(set(sizes)):
        yield "validValues: too many, or not ascending"
    if default not in sizes:
        yield "default: none of the values"


def _range(limits: JsonObject, default: int, value: int) -> Iterator[str]:
    if "min" not in limits:
        yield "validRange.min: missing"
        return
    least, most = whole(limits["min"]), whole(limits.get("max", str(value)))
    if not least <= default <= most <= value:
        yield "default: not within the range, or the range not within the value"
    step = whole(limits.get("step", "0"))
    if step and ((default - least) % step or (most - least) % step):
        yield "not aligned to the step"
    if step and least + step > value:
        yield "min + step exceed the value"
