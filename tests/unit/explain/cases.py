"""One situation for each reason code: the smallest state in which a claim waits for exactly that."""

from __future__ import annotations

from collections.abc import Mapping

from dra_driver.explain.reasons import Code
from tests.unit.explain.situations import DRIVER, Wire, card, device_class, exactly, holding, pool, waiting, whole

GIB8 = {"memory": "8Gi"}
PARTITION = [{"counterSet": "card", "counters": {"engines": {"value": "2"}}}]
_CARD = card("gpu-0")
_MODEL = f'device.attributes["{DRIVER}"].model'
_TAINTED = card("gpu-0", taints=[{"key": "vgpu.hami.io/unhealthy", "value": "xid-79", "effect": "NoSchedule"}])


def _counted() -> list[Wire]:
    shared = pool("node-a", slices=2, sharedCounters=[{"name": "card", "counters": {"engines": {"value": "3"}}}])
    del shared["spec"]["devices"]
    parts = [{**whole(name), "consumesCounters": PARTITION} for name in ("part-0", "part-1")]
    return [
        {**shared, "metadata": {"name": "counters"}},
        pool("node-a", *parts, slices=2),
        holding("team-b/other", "part-0"),
    ]


def _capacity(**amounts: str) -> Wire:
    return waiting(exactly(capacity=dict(amounts)))


CASES: Mapping[Code, tuple[Wire, list[Wire]]] = {
    Code.NODE_EXCLUDED: (
        _capacity(memory="8Gi"),
        [pool("node-a", _CARD), {"kind": "Node", "metadata": {"name": "node-a"}, "spec": {"unschedulable": True}}],
    ),
    Code.IN_USE: (_capacity(memory="8Gi"), [pool("node-a", whole("gpu-0")), holding("team-b/other", "gpu-0")]),
    Code.CLASS_SELECTOR: (
        waiting(exactly(device_class="hygon")),
        [pool("node-a", _CARD), device_class("hygon", f'device.attributes["{DRIVER}"].vendor == "hygon"')],
    ),
    Code.REQUEST_SELECTOR: (waiting(exactly(f'{_MODEL} == "H100"', capacity=GIB8)), [pool("node-a", _CARD)]),
    Code.SELECTOR_ERROR: (
        waiting(exactly(f'device.attributes["{DRIVER}"].linkGroup == 1')),
        [pool("node-a", _CARD), pool("node-b", card("gpu-0", attributes={"linkGroup": {"int": 1}}))],
    ),
    Code.SELECTOR_UNKNOWN: (
        waiting(exactly(f'cel.bind(a, device.attributes["{DRIVER}"], a.model == "A100")')),
        [pool("node-a", _CARD)],
    ),
    Code.CAPACITY_MISSING: (_capacity(bandwidth="1"), [pool("node-a", _CARD)]),
    Code.CAPACITY_NOT_ALLOWED: (_capacity(shares="2"), [pool("node-a", _CARD)]),
    Code.CAPACITY_TOO_SMALL: (_capacity(memory="16.1Gi"), [pool("node-a", _CARD)]),
    Code.CAPACITY_SHORT: (
        _capacity(memory="8Gi", cores="50"),
        [pool("node-a", _CARD), holding("team-b/other", "gpu-0", memory="12Gi", cores="60")],
    ),
    Code.SHARES_USED_UP: (
        _capacity(memory="1Gi"),
        [
            pool("node-a", card("gpu-0", shares="2")),
            holding("team-b/one", "gpu-0", memory="1Gi"),
            holding("team-b/two", "gpu-0", memory="1Gi"),
        ],
    ),
    Code.COUNTERS_SHORT: (_capacity(memory="8Gi"), _counted()),
    Code.TAINTED: (_capacity(memory="8Gi"), [pool("node-a", _TAINTED)]),
    Code.ATTRIBUTE_MISSING: (
        waiting(exactly(capacity=GIB8), constraints=[{"matchAttribute": f"{DRIVER}/linkGroup"}]),
        [pool("node-a", _CARD)],
    ),
    Code.POOL_INCOMPLETE: (_capacity(memory="8Gi"), [pool("node-a", _CARD, slices=2)]),
    Code.POOL_INVALID: (_capacity(memory="8Gi"), [pool("node-a", _CARD, _CARD)]),
    Code.NO_CARDS: (_capacity(memory="8Gi"), [{"kind": "Node", "metadata": {"name": "node-a"}}]),
    Code.CLASS_MISSING: (waiting(exactly(device_class="gpu.example.com")), [pool("node-a", _CARD)]),
    Code.TOO_FEW_CARDS: (
        waiting(exactly(capacity=GIB8, count=3)),
        [pool("node-a", _CARD, card("gpu-1")), pool("node-b", _CARD)],
    ),
    Code.CONSTRAINT_UNMET: (
        waiting(exactly(capacity=GIB8), exactly(capacity=GIB8), constraints=[{"matchAttribute": f"{DRIVER}/uuid"}]),
        [
            pool("node-a", _CARD, card("gpu-1")),
            holding("team-b/a", "gpu-0", memory="4Gi"),
            holding("team-b/b", "gpu-1", memory="4Gi"),
        ],
    ),
    Code.REQUESTS_COMPETE: (
        waiting(exactly(capacity=GIB8), exactly(capacity={"memory": "12Gi"})),
        [pool("node-a", _CARD)],
    ),
    Code.TOO_MANY_DEVICES: (waiting(exactly(count=33)), [pool("node-a", _CARD)]),
    Code.NOT_REPRESENTABLE: (_capacity(memory="2000000.0001"), [pool("node-a", card("gpu-0"))]),
    Code.REQUEST_NOT_SUPPORTED: (waiting(exactly(allocationMode="Some")), [pool("node-a", _CARD)]),
    Code.SEARCH_TOO_LONG: (
        waiting(
            *(exactly(capacity={"memory": "1Mi"}, count=4) for _ in range(3)),
            constraints=[{"distinctAttribute": f"{DRIVER}/uuid"}],
        ),
        [pool("node-a", *(card(f"gpu-{number}") for number in range(11)))],
    ),
}
