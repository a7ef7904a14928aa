"""Bytes over the limit in a race of several processes at the limit; the card's own account is the witness."""

from __future__ import annotations

import json

from tests.bench.shim.machine import GIB, Machine
from tests.shim.tenants import PROBES
from tests.simgpu import installation

RACERS = 3
THREADS = "2"
ALLOWANCE = 2 * GIB
LIMIT = 4 * GIB


def race(machine: Machine, rounds: int) -> tuple[int, int, int]:
    """Bytes over the limit, allocations that succeeded, and allocations that the limit refused."""
    share = machine.share("race")
    share.write_limit("memory_current_bytes", LIMIT)
    before = machine.cards.show().cards[0]
    command = [str(PROBES / "racer"), THREADS, str(rounds), str(ALLOWANCE)]
    racers = [machine.cards.spawn(command, **machine.environment(share)) for _ in range(RACERS)]
    for racer in racers:
        installation.await_ready(racer)
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    reports = [json.loads(installation.await_ready(racer)) for racer in racers]
    peak = max(machine.cards.show().cards[0].peak - before.used, share.usage("peak_bytes"))
    for racer in racers:
        installation.finish(racer)
        machine.cards.clients.remove(racer)
    return max(0, peak - LIMIT), sum(r["succeeded"] for r in reports), sum(r["refused"] for r in reports)
