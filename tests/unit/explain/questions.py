"""Random questions for the allocator: a node's slices, what is allocated of them, and a claim that waits.

Kept valid as the API server would have them, and full of the cases that rounding, sharing and search turn on.
"""

from __future__ import annotations

import random
import uuid
from typing import Any

from dra_driver.explain.amounts import consumed
from dra_driver.explain.objects import Capacity

Wire = dict[str, Any]
DRIVER = "vgpu.hami.io"
CLASSES = {
    "any": [],
    "ours": [f'device.driver == "{DRIVER}"'],
    "nvidia": [f'device.driver == "{DRIVER}" && device.attributes["{DRIVER}"].vendor == "nvidia"'],
    "whole": ["!device.allowMultipleAllocations"],
}
MEMORY = (
    {"value": "16Gi"},
    {"value": "16Gi", "requestPolicy": {"default": "16Gi", "validRange": {"min": "1Mi", "step": "1Mi"}}},
    {"value": "16Gi", "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "max": "8Gi", "step": "1Gi"}}},
    {"value": "24Gi", "requestPolicy": {"default": "100Mi", "validRange": {"min": "100Mi", "step": "1Gi"}}},
    {"value": "16Gi", "requestPolicy": {"default": "8Gi", "validValues": ["4Gi", "8Gi", "16Gi"]}},
    {"value": "8Gi", "requestPolicy": {"default": "2Gi"}},
    {"value": "16Gi", "requestPolicy": {"default": "2Gi", "validRange": {"min": "1Gi"}}},
)
CORES = (
    {"value": "100", "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}}},
    {"value": "100", "requestPolicy": {"default": "5", "validRange": {"min": "5", "max": "100", "step": "5"}}},
    {"value": "100", "requestPolicy": {"default": "500m", "validRange": {"min": "500m", "step": "250m"}}},
)
SHARES = (
    {"value": "2", "requestPolicy": {"default": "1", "validValues": ["1"]}},
    {"value": "10", "requestPolicy": {"default": "1", "validValues": ["1"]}},
)
ASKED = {
    "memory": ("0", "1", "512Mi", "1G", "1100Mi", "2Gi", "4Gi", "5Gi", "8Gi", "8.5Gi", "16Gi", "17Gi", "20Gi"),
    "cores": ("0", "1", "6", "10", "12.1", "5500m", "30", "50", "100", "101", "100200m"),
    "shares": ("1", "2"),
    "bandwidth": ("1",),
}
SELECTORS = (
    f'device.attributes["{DRIVER}"].vendor == "nvidia"',
    f'device.attributes["{DRIVER}"].model in ["A100", "H100"]',
    f'device.attributes["{DRIVER}"].index < 2',
    f'device.attributes["{DRIVER}"].model.startsWith("A") || device.attributes["{DRIVER}"].index == 0',
    f'device.capacity["{DRIVER}"].memory.compareTo(quantity("16Gi")) >= 0',
    f'device.capacity["{DRIVER}"].memory.isGreaterThan(quantity("10Gi"))',
    f'device.attributes["{DRIVER}"].driverVersion.isLessThan(semver("570.0.0"))',
    f'"linkGroup" in device.attributes["{DRIVER}"] && device.attributes["{DRIVER}"].linkGroup == 1',
    f'has(device.attributes["{DRIVER}"].linkGroup)',
    f'device.attributes["{DRIVER}"].linkGroup == 0',
    f'device.attributes["{DRIVER}"].linkGroup == 0 || true',
    'device.attributes["example.com"].rack == "r1"',
    'has(device.attributes["example.com"].rack)',
    f'device.attributes["{DRIVER}"].model.matches("^[AH]100$")',
    f'!(device.attributes["{DRIVER}"].model == "A100") && device.allowMultipleAllocations',
    f'device.attributes["{DRIVER}"].index + 1 > 2 ? true : false',
)
# What cannot be judged outside Kubernetes.
BEYOND = f'cel.bind(ours, device.attributes["{DRIVER}"], ours.index == 0)'
TAINTS = (
    {"key": "sick", "value": "xid-79", "effect": "NoSchedule"},
    {"key": "sick", "effect": "NoExecute"},
    {"key": "worn", "effect": "None"},
)
TOLERATIONS = (
    {"operator": "Exists"},
    {"key": "sick", "operator": "Exists"},
    {"key": "sick", "operator": "Equal", "value": "xid-79"},
    {"key": "sick", "operator": "Exists", "effect": "NoExecute"},
    {"key": "other", "operator": "Exists"},
)
ATTRIBUTES = tuple(f"{DRIVER}/{name}" for name in ("model", "index", "linkGroup", "vendor", "driverVersion", "big"))


class Questions:
    """Makes questions; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self) -> Wire:
        """Return `{"slices", "classes", "allocated", "wanted", "node"}`."""
        slices = self._slices()
        return {
            "slices": slices,
            "classes": [_class(name, expressions) for name, expressions in CLASSES.items()],
            "allocated": self._allocated(slices),
            "wanted": [self._claim(index) for index in range(self._random.choice((1, 1, 1, 1, 1, 2)))],
            "node": {"kind": "Node", "metadata": {"name": "node-a", "labels": {"zone": "z1"}}},
        }

    def _slices(self) -> list[Wire]:
        made: list[Wire] = []
        for pool in range(self._random.choice((1, 1, 2))):
            count = self._random.choice((1, 1, 2))
            slices = [self._slice(f"pool-{pool}", number, count) for number in range(count)]
            made += self._partitioned(slices) if self._random.random() < 0.1 else slices
        if self._random.random() < 0.06:
            made.pop(self._random.randrange(len(made)))
        if self._random.random() < 0.06 and made:
            self._random.choice(made)["spec"]["pool"]["generation"] = 2
        self._random.shuffle(made)
        return made

    def _partitioned(self, slices: list[Wire]) -> list[Wire]:
        """Devices that draw on counters, and the slice that has those."""
        spec = slices[0]["spec"]
        counters = {"memory": {"value": self._random.choice(("20Gi", "40Gi"))}, "engines": {"value": "3"}}
        for device in (device for one in slices for device in one["spec"]["devices"]):
            used = {"memory": {"value": "10Gi"}, "engines": {"value": self._random.choice(("1", "2"))}}
            device["consumesCounters"] = [{"counterSet": "card", "counters": used}]
        shared = {"driver": spec["driver"], "pool": dict(spec["pool"]), "nodeName": "node-a"}
        shared["sharedCounters"] = [{"name": "card", "counters": counters}]
        made = [*slices, {"kind": "ResourceSlice", "metadata": {"name": f"z-{spec['pool']['name']}"}, "spec": shared}]
        for one in made:
            one["spec"]["pool"]["resourceSliceCount"] = len(made)
        return made

    def _slice(self, pool: str, number: int, count: int) -> Wire:
        spec: Wire = {
            "driver": DRIVER if pool == "pool-0" or self._random.random() < 0.7 else "other.example.com",
            "pool": {"name": pool, "generation": 1, "resourceSliceCount": count},
            "devices": [self._device(f"{number}-{index}") for index in range(self._random.randint(1, 3))],
        }
        where = self._random.random()
        if where < 0.85:
            spec["nodeName"] = "node-a"
        elif where < 0.9:
            spec["allNodes"] = True
        elif where < 0.95:
            spec["nodeSelector"] = _zone(self._random.choice(("z1", "z2")))
        else:
            spec["perDeviceNodeSelection"] = True
            for device in spec["devices"]:
                device["nodeName"] = self._random.choice(("node-a", "node-b"))
        if self._random.random() < 0.03:
            spec["devices"].append({**self._device("x"), "name": f"gpu-{number}-0"})
        name = f"{self._random.randrange(16):x}-{pool}-{number}"
        return {"kind": "ResourceSlice", "metadata": {"name": name}, "spec": spec}

    def _device(self, suffix: str) -> Wire:
        pick = self._random
        attributes: Wire = {
            "vendor": {"string": pick.choice(("nvidia", "hygon"))},
            "model": {"string": pick.choice(("A100", "H100", "L4"))},
            "index": {"int": pick.randrange(4)},
            "driverVersion": {"version": pick.choice(("550.1.0", "570.0.0", "570.0.0-rc.1"))},
            "big": {"bool": pick.random() < 0.5},
        }
        if pick.random() < 0.85:
            attributes["linkGroup"] = {"int": pick.randrange(2)}
        if pick.random() < 0.3:
            attributes["example.com/rack"] = {"string": pick.choice(("r1", "r2"))}
        device: Wire = {"name": f"gpu-{suffix}", "attributes": attributes}
        if pick.random() < 0.75:
            capacity = {"memory": pick.choice(MEMORY), "cores": pick.choice(CORES), "shares": pick.choice(SHARES)}
            device |= {"allowMultipleAllocations": True, "capacity": capacity}
            if pick.random() < 0.1:
                del capacity["shares"]
        else:
            device["capacity"] = {"memory": {"value": pick.choice(("8Gi", "16Gi"))}, "cores": {"value": "100"}}
        if pick.random() < 0.03:
            device |= {"bindingConditions": ["attached"], "bindingFailureConditions": ["failed"]}
        if pick.random() < 0.15:
            device["taints"] = [pick.choice(TAINTS)]
        return device

    def _allocated(self, slices: list[Wire]) -> list[Wire]:
        claims: list[Wire] = []
        for one in slices:
            for device in one["spec"].get("devices", ()):
                for _ in range(self._random.choice((0, 0, 0, 1, 1, 2))):
                    result = self._result(one, device)
                    claims.append(_allocated_claim(len(claims), result))
        return claims

    def _result(self, one: Wire, device: Wire) -> Wire:
        result = {"request": "r", "driver": one["spec"]["driver"], "pool": one["spec"]["pool"]["name"]}
        result["device"] = device["name"]
        if not device.get("allowMultipleAllocations") or self._random.random() < 0.05:
            return result
        asked = {"memory": "4Gi", "cores": self._random.choice(("10", "30", "60")), "shares": "1"}
        amounts = {
            name: str(consumed(Capacity.model_validate({"value": asked[name]}).value, Capacity.model_validate(wire)))
            for name, wire in device["capacity"].items()
        }
        share = str(uuid.UUID(int=self._random.getrandbits(128)))
        return {**result, "shareID": share, "consumedCapacity": {name: _milli(text) for name, text in amounts.items()}}

    def _claim(self, index: int) -> Wire:
        requests = [self._request(f"r{number}") for number in range(self._random.choice((1, 1, 1, 2, 3)))]
        devices: Wire = {"requests": requests}
        if self._random.random() < 0.25:
            devices["constraints"] = [self._constraint(requests) for _ in range(self._random.choice((1, 1, 2)))]
        metadata = {"namespace": "team", "name": f"wanted-{index}", "uid": f"w{index}"}
        return {"kind": "ResourceClaim", "metadata": metadata, "spec": {"devices": devices}}

    def _constraint(self, requests: list[Wire]) -> Wire:
        kind = self._random.choice(("matchAttribute", "distinctAttribute"))
        names = [request["name"] for request in requests]
        chosen = [] if self._random.random() < 0.5 else self._random.sample(names, self._random.randint(1, len(names)))
        return {kind: self._random.choice(ATTRIBUTES), **({"requests": chosen} if chosen else {})}

    def _request(self, name: str) -> Wire:
        if self._random.random() < 0.2:
            return {"name": name, "firstAvailable": [{"name": f"s{n}", **self._ask()} for n in range(2)]}
        ask = self._ask()
        if self._random.random() < 0.03:
            ask["adminAccess"] = True
        return {"name": name, "exactly": ask}

    def _ask(self) -> Wire:
        pick = self._random
        ask: Wire = {"deviceClassName": pick.choice((*CLASSES, "any", "ours"))}
        if pick.random() < 0.01:
            ask["deviceClassName"] = "missing"
        all_of_them = pick.random() < 0.06
        ask |= {"allocationMode": "All"} if all_of_them else {"allocationMode": "ExactCount"}
        if not all_of_them:
            ask["count"] = pick.choice((1, 1, 1, 1, 2, 2, 3, 4, 40 if pick.random() < 0.05 else 1))
        chances = {"memory": 0.75, "cores": 0.5, "shares": 0.1, "bandwidth": 0.02}
        asked = {name: pick.choice(ASKED[name]) for name, chance in chances.items() if pick.random() < chance}
        if asked and pick.random() < 0.9:
            ask["capacity"] = {"requests": asked}
        if pick.random() < 0.3:
            expression = BEYOND if pick.random() < 0.01 else pick.choice(SELECTORS)
            ask["selectors"] = [{"cel": {"expression": expression}}]
        if pick.random() < 0.2:
            ask["tolerations"] = [pick.choice(TOLERATIONS)]
        return ask


def _class(name: str, expressions: list[str]) -> Wire:
    selectors = [{"cel": {"expression": expression}} for expression in expressions]
    return {"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": selectors}}


def _zone(zone: str) -> Wire:
    return {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}


def _allocated_claim(number: int, result: Wire) -> Wire:
    metadata = {"namespace": "others", "name": f"held-{number}", "uid": f"h{number}"}
    status = {"allocation": {"devices": {"results": [result]}}}
    return {"kind": "ResourceClaim", "metadata": metadata, "spec": {}, "status": status}


def _milli(text: str) -> str:
    """Write what may be a fraction (`61/2`) as a quantity."""
    numerator, _, denominator = text.partition("/")
    return text if not denominator else f"{int(numerator) * 1000 // int(denominator)}m"
