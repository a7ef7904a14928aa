"""Nanoseconds per call: processes on the bare driver and with the shim in turn, medians over all of them.

In turn, because a machine that slows down for a second must not do so for one side only.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.shim.machine import IMAGE, Machine

LIMIT = 50
TIMEOUT_S = 120
LAUNCHES = ("cuLaunchKernel", "cuLaunchKernel_8_shapes")


@dataclass(frozen=True)
class Target:
    """What a call may cost, in words and as a test of its two medians (ns)."""

    words: str
    is_met: Callable[[float, float], bool]


TARGETS = {
    "cuLaunchKernel": Target("stub + 3", lambda stub, shim: shim <= stub + 3),
    "cuLaunchKernel_8_shapes": Target("stub + 3", lambda stub, shim: shim <= stub + 3),
    "cuLaunchKernel_no_limit": Target("stub + 3", lambda stub, shim: shim <= stub + 3),
    "cuMemcpyHtoDAsync": Target("stub", lambda stub, shim: shim <= stub * 1.05 + 0.5),
    "cuMemGetInfo": Target("20", lambda _, shim: shim <= 20),
    "alloc_free_0_live": Target("60", lambda _, shim: shim <= 60),
    "alloc_free_10000_live": Target("60", lambda _, shim: shim <= 60),
    "cuGetProcAddress": Target("stub x 1.3", lambda stub, shim: shim <= stub * 1.3),
    "cuInit": Target("stub + 0.2 ms", lambda stub, shim: shim <= stub + 200_000),
}


@dataclass(frozen=True)
class Call:
    """One call's medians in nanoseconds."""

    name: str
    stub_ns: float
    shim_ns: float

    @property
    def is_met(self) -> bool:
        """Whether the target holds; a call without one always does."""
        return self.name not in TARGETS or TARGETS[self.name].is_met(self.stub_ns, self.shim_ns)


def _once(machine: Machine, environment: dict[str, str]) -> dict[str, float]:
    command = [machine.program("calls"), str(IMAGE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return {name: float(ns) for name, ns in (line.split() for line in done.stdout.splitlines())}


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measure(machine: Machine, processes: int) -> list[Call]:
    """`processes` processes of each kind: the bare driver, a share with a limit, a share without."""
    limited, unlimited = machine.share("limited", cores=LIMIT), machine.share("unlimited")
    kinds = {"stub": None, "shim": limited, "no_limit": unlimited}
    seen: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(processes):
        for kind, share in kinds.items():
            seen[kind].append(_once(machine, machine.environment(share, SIMGPU_TIMELINE="off")))
    medians = {
        kind: {name: statistics.median(r[name] for r in runs) for name in runs[0]} for kind, runs in seen.items()
    }
    calls = [Call(name, medians["stub"][name], medians["shim"][name]) for name in medians["stub"]]
    free = Call("cuLaunchKernel_no_limit", medians["stub"]["cuLaunchKernel"], medians["no_limit"]["cuLaunchKernel"])
    return [*calls, free]
