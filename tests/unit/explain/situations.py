"""States of a small cluster as plain API objects, one line each: cards, claims that hold, claims that wait."""

from __future__ import annotations

from typing import Any

from dra_driver.explain.explanation import Explanation, explain
from dra_driver.explain.state import State, parse_claim, parse_state
from dra_driver.explain.suggesting import suggest
from dra_driver.explain.wording import text

Wire = dict[str, Any]
DRIVER = "vgpu.hami.io"


def card(name: str, *, memory: str = "16Gi", shares: str = "10", **more: Any) -> Wire:
    """A card as the node plugin publishes it; keywords are further fields of the device."""
    step = {"min": "1Mi", "step": "1Mi", "max": memory}
    percent = {"min": "0", "step": "1", "max": "100"}
    return {
        "name": name,
        "allowMultipleAllocations": True,
        "attributes": {"vendor": {"string": "nvidia"}, "model": {"string": "A100"}, "uuid": {"string": f"GPU-{name}"}},
        "capacity": {
            "memory": {"value": memory, "requestPolicy": {"default": memory, "validRange": step}},
            "cores": {"value": "100", "requestPolicy": {"default": "0", "validRange": percent}},
            "shares": {"value": shares, "requestPolicy": {"default": "1", "validValues": ["1"]}},
        },
        **more,
    }


def whole(name: str) -> Wire:
    """A card that is given away as a whole."""
    return {"name": name, "capacity": {"memory": {"value": "16Gi"}}, "attributes": {"vendor": {"string": "nvidia"}}}


def pool(node: str, *cards: Wire, slices: int = 1, **spec: Any) -> Wire:
    """The one slice of a node's pool, which may claim to be one of several."""
    return {
        "kind": "ResourceSlice",
        "metadata": {"name": f"00-{node}"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": f"{node}-nvidia", "generation": 1, "resourceSliceCount": slices},
            "devices": list(cards),
            **spec,
        },
    }


def device_class(name: str = DRIVER, expression: str = f'device.driver == "{DRIVER}"') -> Wire:
    """A class."""
    selectors = [{"cel": {"expression": expression}}]
    return {"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": selectors}}


def holding(path: str, device: str, node: str = "node-a", **amounts: str) -> Wire:
    """A claim that has a share of these amounts, or the whole card where there are none."""
    namespace, _, name = path.partition("/")
    result: Wire = {"request": "slice", "driver": DRIVER, "pool": f"{node}-nvidia", "device": device}
    if amounts:
        result |= {"shareID": name, "consumedCapacity": {"cores": "0", "shares": "1", **amounts}}
    return {
        "kind": "ResourceClaim",
        "metadata": {"namespace": namespace, "name": name, "uid": path},
        "spec": {"devices": {"requests": [{"name": "slice", "exactly": {"deviceClassName": DRIVER}}]}},
        "status": {
            "allocation": {"devices": {"results": [result]}},
            "reservedFor": [{"resource": "pods", "name": f"{name}-pod", "uid": "1"}],
        },
    }


def exactly(*selectors: str, device_class: str = DRIVER, capacity: Wire | None = None, **more: Any) -> Wire:
    """A request's content."""
    ask: Wire = {"deviceClassName": device_class, **more}
    if selectors:
        ask["selectors"] = [{"cel": {"expression": expression}} for expression in selectors]
    return {**ask, **({"capacity": {"requests": capacity}} if capacity else {})}


def waiting(*asks: Wire, name: str = "train", constraints: list[Wire] | None = None) -> Wire:
    """A claim of team-a that waits, with requests called slice, slice-2, …"""
    requests = [{"name": f"slice-{n}" if n > 1 else "slice", "exactly": ask} for n, ask in enumerate(asks, 1)]
    devices: Wire = {"requests": requests, **({"constraints": constraints} if constraints else {})}
    metadata = {"namespace": "team-a", "name": name, "uid": f"uid-{name}"}
    return {"kind": "ResourceClaim", "metadata": metadata, "spec": {"devices": devices}}


def told(claim: Wire, *objects: Wire) -> Explanation:
    """The explanation of a claim."""
    return explain(state(*objects), parse_claim(claim))


def words(claim: Wire, *objects: Wire, names: bool = True) -> str:
    """The explanation with its suggestions, in words."""
    known, parsed = state(*objects), parse_claim(claim)
    explained = explain(known, parsed)
    return text(explained, suggest(known, parsed, explained), names=names)


def state(*objects: Wire) -> State:
    """The state with these objects and the class of the driver."""
    return parse_state([device_class(), *objects])
