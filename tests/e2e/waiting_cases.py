"""Situations in which a claim waits, one for each reason, on nodes that exist in the API alone.

The scheduler allocates and binds there as anywhere; nothing runs, and nothing has to. Each situation has a node of its
own, and its pods can be nowhere else, so that all of them can be made at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dra_driver.explain.reasons import Code
from tests.cluster.node import PAUSE_IMAGE
from tests.stack.plugin import DRIVER
from tests.unit.explain.situations import card, device_class, exactly, pool, whole

Wire = dict[str, Any]
LABEL = "case.example.com/name"
_DRAWS = [{"counterSet": "card", "counters": {"engines": {"value": "2"}}}]
_VENDOR = f'device.attributes["{DRIVER}"]'


@dataclass(frozen=True)
class Case:
    """`cards` or `slices` are on the node, `held` is asked for first, `asked` then waits.

    `cured` makes objects after which it is scheduled; without it a suggestion is followed.
    """

    code: Code
    asked: list[Wire]
    cards: tuple[Wire, ...] = (card("gpu-0"),)
    slices: Callable[[str], list[Wire]] | None = None
    held: tuple[Wire, ...] = ()
    constraints: list[Wire] | None = None
    selector: Mapping[str, str] = field(default_factory=dict)
    cured: Callable[[str], list[Wire]] | None = None

    @property
    def node(self) -> str:
        """The name of its node, of its claim and of its pod."""
        return f"case-{self.code.lower()}"

    def facts(self) -> list[Wire]:
        """Node and slices."""
        slices = self.slices(self.node) if self.slices else [pool(self.node, *self.cards)]
        return [node(self.node), *(_slice(wire) for wire in slices)]


def node(name: str, **labels: str) -> Wire:
    """A node without a kubelet."""
    room = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    status = {"allocatable": room, "capacity": room}
    metadata = {"name": name, "labels": {LABEL: name, **labels}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}


def claim_and_pod(
    name: str,
    on: str,
    asked: list[Wire],
    constraints: list[Wire] | None = None,
    selector: Mapping[str, str] | None = None,
) -> list[Wire]:
    """A claim, and a pod that waits for it and can be on one node alone."""
    requests = [{"name": f"slice-{n}" if n > 1 else "slice", **_request(ask)} for n, ask in enumerate(asked, 1)]
    devices: Wire = {"requests": requests, **({"constraints": constraints} if constraints else {})}
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": devices},
    }
    tolerations = [{"key": f"node.kubernetes.io/{key}", "operator": "Exists"} for key in ("not-ready", "unreachable")]
    container = {"name": "main", "image": PAUSE_IMAGE, "resources": {"claims": [{"name": "gpu"}]}}
    spec = {
        "nodeSelector": {LABEL: on, **(selector or {})},
        "tolerations": tolerations,
        "terminationGracePeriodSeconds": 0,
        "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
        "containers": [container],
    }
    return [claim, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}]


def _request(ask: Wire) -> Wire:
    return ask if "firstAvailable" in ask else {"exactly": ask}


def _slice(wire: Wire) -> Wire:
    return {"apiVersion": "resource.k8s.io/v1", **wire}


def _memory(amount: str, **more: Any) -> Wire:
    return exactly(capacity={"memory": amount}, **more)


def _partitions(name: str) -> list[Wire]:
    parts = [{**whole(f"part-{number}"), "consumesCounters": _DRAWS} for number in range(2)]
    return [_engines(name, "3"), pool(name, *parts, slices=2)]


def _engines(name: str, number: str) -> Wire:
    sets = [{"name": "card", "counters": {"engines": {"value": number}}}]
    counters = pool(name, slices=2, sharedCounters=sets)
    del counters["spec"]["devices"]
    return _slice({**counters, "metadata": {"name": f"01-{name}"}})


def _twice(name: str) -> list[Wire]:
    second = pool(name, card("gpu-0"), slices=2)
    return [pool(name, card("gpu-0"), slices=2), {**second, "metadata": {"name": f"01-{name}"}}]


def _second_slice(name: str) -> list[Wire]:
    second = pool(name, card("gpu-1"), slices=2)
    return [_slice({**second, "metadata": {"name": f"01-{name}"}})]


_SICK = {"key": "case.example.com/sick", "effect": "NoSchedule"}
CASES = (
    Case(Code.NODE_EXCLUDED, [_memory("1Gi")], selector={"zone": "z9"}, cured=lambda name: [node(name, zone="z9")]),
    Case(Code.IN_USE, [_memory("1Gi")], cards=(whole("gpu-0"),), held=(_memory("1Gi"),)),
    Case(
        Code.CLASS_SELECTOR,
        [_memory("1Gi", device_class=f"hygon.{DRIVER}")],
        cured=lambda name: [_slice(pool(name, card("gpu-0", attributes={"vendor": {"string": "hygon"}})))],
    ),
    Case(Code.REQUEST_SELECTOR, [exactly(f'{_VENDOR}.model == "H100"', capacity={"memory": "1Gi"})]),
    Case(
        Code.SELECTOR_ERROR,
        [exactly(f"{_VENDOR}.nosuch == 1")],
        cured=lambda name: claim_and_pod(f"{name}-cured", name, [exactly(f"has({_VENDOR}.nosuch) || true")]),
    ),
    Case(
        Code.SELECTOR_UNKNOWN,
        [exactly(f'cel.bind(a, {_VENDOR}, a.model == "H100")')],
        cured=lambda name: [
            _slice(pool(name, card("gpu-0", attributes={"model": {"string": "H100"}, "vendor": {"string": "nvidia"}})))
        ],
    ),
    Case(
        Code.CAPACITY_MISSING,
        [exactly(capacity={"bandwidth": "1"})],
        cured=lambda name: claim_and_pod(f"{name}-cured", name, [exactly()]),
    ),
    Case(Code.CAPACITY_NOT_ALLOWED, [exactly(capacity={"shares": "2"})]),
    Case(Code.CAPACITY_TOO_SMALL, [_memory("17Gi")]),
    Case(Code.CAPACITY_SHORT, [_memory("8Gi")], held=(_memory("12Gi"),)),
    Case(Code.SHARES_USED_UP, [_memory("1Gi")], cards=(card("gpu-0", shares="1"),), held=(_memory("1Gi"),)),
    Case(
        Code.COUNTERS_SHORT,
        [exactly()],
        slices=_partitions,
        held=(exactly(),),
        cured=lambda name: [_engines(name, "4")],
    ),
    Case(Code.TAINTED, [_memory("1Gi")], cards=(card("gpu-0", taints=[_SICK]),)),
    Case(Code.ATTRIBUTE_MISSING, [_memory("1Gi")], constraints=[{"matchAttribute": f"{DRIVER}/nosuch"}]),
    Case(
        Code.POOL_INCOMPLETE,
        [_memory("1Gi")],
        slices=lambda name: [pool(name, card("gpu-0"), slices=2)],
        cured=_second_slice,
    ),
    Case(Code.POOL_INVALID, [_memory("1Gi")], slices=_twice, cured=_second_slice),
    Case(
        Code.CLASS_MISSING,
        [_memory("1Gi", device_class=f"case.{DRIVER}")],
        cured=lambda _name: [{"apiVersion": "resource.k8s.io/v1", **device_class(f"case.{DRIVER}")}],
    ),
    Case(Code.TOO_FEW_CARDS, [_memory("1Gi", count=3)], cards=(card("gpu-0"), card("gpu-1"))),
    Case(
        Code.CONSTRAINT_UNMET,
        [_memory("9Gi"), _memory("9Gi")],
        cards=(card("gpu-0"), card("gpu-1")),
        constraints=[{"matchAttribute": f"{DRIVER}/uuid"}],
    ),
    Case(Code.REQUESTS_COMPETE, [_memory("8Gi"), _memory("12Gi")]),
    Case(
        Code.TOO_MANY_DEVICES,
        [_memory("1Mi", count=33)],
        cured=lambda name: claim_and_pod(f"{name}-cured", name, [exactly()]),
    ),
)
"""Not here: NoCards (this cluster has some), RequestNotSupported (the API refuses what we do not know),
NotRepresentable (only with the gate DRAFractionalCapacityRange, which is off while a cluster may go back to 1.36) and
SearchTooLong (the scheduler takes as long). The unit tests have them."""
