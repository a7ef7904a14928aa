"""The controller beside targets, at 100 and at 1,000 nodes of eight cards with ten claims each; and a control.

What is measured: how long a new replica takes to know everything; how long a new waiting claim is without
explanation; memory; the processor time of a cluster in which claims come and go; requests per explained claim. The
control is what no controller on this machine can be faster than: from a write to when a watch brings it.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dra_driver.kube.connection import ServerConnection
from dra_driver.kube.credentials import of_kubeconfig
from tests.bench.controller.api_server import api_server
from tests.bench.controller.cluster import LargeCluster
from tests.bench.controller.controller_process import Running, running_controller
from tests.bench.controller.measuring import quantiles, steady, waits
from tests.cluster.paths import FOLDER_VARIABLE
from tests.stack.places import ROOT

SIZES = (100, 1000)
TARGETS = {
    "cold_start_s": 60.0,
    "explain_s p99": 2.0,
    "rss_mib": 512.0,
    "cpu_percent_steady": 10.0,
    "api_calls_per_claim": 3.0,
}
_FOLDER = "/var/lib/hami-dra-bench"


def main() -> None:
    """Measure, print, and write build/bench-controller.json."""
    figures = {str(size): asyncio.run(measure(size)) for size in SIZES}
    target = ROOT / "build/bench-controller.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({**figures, "targets": TARGETS}, indent=2) + "\n")
    report(figures)
    print(f"\nwritten to {target.relative_to(ROOT)}")


async def measure(size: int) -> dict[str, Any]:
    """One cluster of that many nodes."""
    folder = Path(f"{os.environ.get(FOLDER_VARIABLE, _FOLDER)}-b")
    with api_server(folder) as plan, tempfile.TemporaryDirectory() as scratch:
        kubeconfig = plan.paths.admin_kubeconfig
        async with ServerConnection(await asyncio.to_thread(of_kubeconfig, kubeconfig)) as connection:
            cluster = LargeCluster(connection, size)
            seconds = await cluster.fill()
            print(f"{size} nodes: {cluster.objects} objects made in {seconds:.0f} s", flush=True)
            async with running_controller(Path(scratch), kubeconfig) as running:
                return await _figures(cluster, running)


async def _figures(cluster: LargeCluster, running: Running) -> dict[str, Any]:
    rss = running.resident_mib
    await asyncio.sleep(5)
    calm = await steady(cluster, running)
    before = running.calls()
    found = await waits(cluster)
    after = running.calls()
    judging, looks = running.judging_seconds()
    calls = sum(after.values()) - sum(before.values())
    return {
        "cold_start_s": round(running.cold_start_seconds, 2),
        "explain_s": quantiles(found.explained),
        "rss_mib": round(rss, 1),
        "cpu_percent_steady": round(calm.percent, 2),
        "api_calls_per_claim": round(calls / len(found.explained), 2),
        "peak_rss_mib": round(running.peak_mib, 1),
        "kind_s": round(judging / looks, 3),
        "cpu_ms_per_change": round(calm.milliseconds_per_change, 2),
        "control_watch_s": quantiles(found.control),
        "claims": cluster.claims,
        "load_average": os.getloadavg()[0],
    }


def report(figures: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    print(f"\n{'':26}" + "".join(f"{size + ' nodes':>14}" for size in figures) + "   target")
    flat = {size: _flat(one) for size, one in figures.items()}
    for name in next(iter(flat.values())):
        target = f"<= {TARGETS[name]:g}" if name in TARGETS else ""
        print(f"{name:26}" + "".join(f"{flat[size][name]:14.2f}" for size in flat) + f"   {target}")


def _flat(figures: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found.update({f"{name} {part}": one for part, one in value.items()})
        else:
            found[name] = value
    return found


if __name__ == "__main__":
    main()
