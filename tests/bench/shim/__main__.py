"""python -m tests.bench.shim [--quick]: prints the tables beside their targets and writes build/bench-shim.json.

The exit status is 0 whether targets are met or not: a benchmark tells, it does not judge.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.bench.shim import calls, compute, overrun
from tests.bench.shim.machine import REPOSITORY, Machine, machine

CARDS = 2


def _verdict(is_met: bool) -> str:
    return "" if is_met else "  MISSED"


def _calls(folder: Path, *, quick: bool) -> dict[str, dict[str, float]]:
    print("\ncall                              stub ns      shim ns      target (shim)", flush=True)
    with machine(folder, 1) as one_card:
        measured = calls.measure(one_card, 3 if quick else 11)
    for call in measured:
        target = calls.TARGETS[call.name].words if call.name in calls.TARGETS else "-"
        print(f"{call.name:28s}{call.stub_ns:13.2f}{call.shim_ns:13.2f}      {target}{_verdict(call.is_met)}")
    return {call.name: {"stub_ns": call.stub_ns, "shim_ns": call.shim_ns} for call in measured}


def _compute(cards: Machine, *, quick: bool) -> list[dict[str, float]]:
    plan = compute.QUICK if quick else compute.Plan()
    print("\nlimit  kernel us   grid  processes     mean      sd    targets: mean within 2, sd within 4", flush=True)
    figures = []
    for figure in compute.table(cards, plan, CARDS):
        row = f"{figure.limit:5d}{figure.kernel_us:11d}{figure.grid:7d}{figure.processes:11d}"
        print(f"{row}{figure.mean:9.2f}{figure.sd:8.2f}{_verdict(figure.is_met)}", flush=True)
        figures.append(asdict(figure))
    return figures


def _both(cards: Machine, *, quick: bool) -> dict[str, list[float]]:
    print("\nshares of 30 and 60 at equal demand: 1:2 within 5 %", flush=True)
    found = {}
    for kernel_us in (500,) if quick else (20, 500, 2000, 20000):
        low, high = compute.two_shares(cards, kernel_us, 4 if quick else 6)
        print(f"{kernel_us:8d} us {low:8.2f} {high:8.2f}{_verdict(abs(high / low / 2 - 1) <= 0.05)}", flush=True)
        found[str(kernel_us)] = [low, high]
    return found


def _throughput(cards: Machine, *, quick: bool) -> dict[str, list[float]]:
    print("\nthroughput at limit 100, percent of the card: bare driver, shim; the same within 1", flush=True)
    found = {}
    for kernel_us in (100,) if quick else (20, 100, 2000):
        bare, ours = (compute.throughput(cards, kernel_us, 4, shim=shim) for shim in (False, True))
        print(f"{kernel_us:8d} us {bare:8.2f} {ours:8.2f}{_verdict(ours >= bare - 1)}", flush=True)
        found[str(kernel_us)] = [bare, ours]
    return found


def main() -> None:
    """Measures all, or a short choice of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shim", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of eight")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="bench-shim-") as place:
        result: dict[str, object] = {"calls": _calls(Path(place) / "one", quick=quick)}
        with machine(Path(place) / "two", CARDS) as cards:
            over, succeeded, refused = overrun.race(cards, 1000 if quick else 5000)
            print(
                f"\nbytes over the limit in a race: {over}{_verdict(over == 0)} ({succeeded} taken, {refused} refused)"
            )
            result |= {"overrun_bytes": over, "two_shares": _both(cards, quick=quick)}
            result |= {"throughput": _throughput(cards, quick=quick), "compute": _compute(cards, quick=quick)}
    path = REPOSITORY / "build" / "bench-shim.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
