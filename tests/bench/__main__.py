"""Prepare and Unprepare over the socket, beside targets and beside two controls taken in the same run.

The controls are what no plugin on this machine can be faster than: one call over the same kind of socket that does
nothing (GetInfo), and one small file put in place durably, of which a Prepare makes several.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2
from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2 as registration_pb2
from drivers.files import write_whole
from tests.bench.api_server import HttpApi
from tests.bench.plugin_process import NODE, Running, running_plugin
from tests.stack.cards import SimulatedCards
from tests.stack.places import ROOT
from tests.support.api import SLICES, MemoryApi
from tests.support.claims import allocated, share

CARDS = 16
CLAIMS = 200
ROUNDS = 200
AT_ONCE = 16
TARGETS = {"prepare p50": 2.0, "prepare p99": 5.0, "resident MiB": 80.0, "ready s": 1.5}


def main() -> None:
    """Measure, print, and write build/bench.json."""
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name))
    target = ROOT / "build/bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\nwritten to {target.relative_to(ROOT)}")


def measure(folder: Path) -> dict[str, object]:
    """One plugin with many cards and claims, measured while nothing else calls it."""
    description = folder / "cards.json"
    description.write_text(json.dumps({"count": CARDS}))
    cards = SimulatedCards(folder / "cards", folder / "cdi")
    (folder / "cdi").mkdir()
    cards.install(description)
    api = MemoryApi(node=NODE)
    with HttpApi(api) as server:
        kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
        with running_plugin(folder, cards, kubeconfig, CLAIMS // CARDS + AT_ONCE + 4) as plugin:
            devices = published(api)
            for number in range(CLAIMS):
                prepare_one(plugin, request(server, api, f"claim-{number}", devices[number % CARDS]))
            alone = rounds(plugin, server, api, devices[0], folder / "control")
            return report(plugin, alone, bursts(plugin, server, api, devices))


def published(api: MemoryApi) -> list[str]:
    """The names of the cards, once they are all published."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        names = [device["name"] for wire in list(api.slices.values()) for device in wire["spec"]["devices"]]
        if len(names) == CARDS:
            return names
        time.sleep(0.05)
    raise RuntimeError(f"not all cards are in {SLICES}")


def request(server: HttpApi, api: MemoryApi, name: str, device: str) -> api_pb2.Claim:
    """A claim for a small slice of a card, which the API server has from now on."""
    wire = allocated(name, share("gpu", device, memory="64Mi", cores="1", share_id=name, pool=f"{NODE}-nvidia"))
    server.call(lambda: api.put_claim(wire))
    metadata = wire["metadata"]
    return api_pb2.Claim(namespace=metadata["namespace"], name=name, uid=metadata["uid"])


def prepare_one(plugin: Running, claim: api_pb2.Claim) -> None:
    """Prepare a claim, or raise RuntimeError."""
    answer = plugin.dra.NodePrepareResources(api_pb2.NodePrepareResourcesRequest(claims=[claim]))
    check(answer.claims[claim.uid].error)


def unprepare_one(plugin: Running, claim: api_pb2.Claim) -> None:
    """Unprepare a claim, or raise RuntimeError."""
    answer = plugin.dra.NodeUnprepareResources(api_pb2.NodeUnprepareResourcesRequest(claims=[claim]))
    check(answer.claims[claim.uid].error)


def check(error: str) -> None:
    """A call that fails has no time worth telling."""
    if error:
        raise RuntimeError(error)


def forget(server: HttpApi, api: MemoryApi, claim: api_pb2.Claim) -> None:
    """Delete a claim from the API server, as happens after its pod has ended."""
    server.call(lambda: api.delete_claim({"metadata": {"namespace": claim.namespace, "name": claim.name}}))


def rounds(
    plugin: Running, server: HttpApi, api: MemoryApi, device: str, control: Path
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Interleave what is measured with the controls.

    A claim is allocated one round before the kubelet asks for it: between the two lies the start of a pod.
    """
    prepare: list[float] = []
    unprepare: list[float] = []
    nothing: list[float] = []
    file: list[float] = []
    coming = request(server, api, "round-0", device)
    for number in range(ROUNDS):
        claim, coming = coming, request(server, api, f"round-{number + 1}", device)
        prepare.append(timed(partial(prepare_one, plugin, claim)))
        nothing.append(timed(lambda: plugin.registration.GetInfo(registration_pb2.InfoRequest())))
        unprepare.append(timed(partial(unprepare_one, plugin, claim)))
        forget(server, api, claim)
        file.append(timed(lambda: write_whole(control, b"x" * 4096, mode=0o600)))
    return prepare, unprepare, nothing, file


def bursts(plugin: Running, server: HttpApi, api: MemoryApi, devices: Sequence[str]) -> list[float]:
    """Many prepares at the same moment; the milliseconds of each."""
    taken: list[float] = []
    with ThreadPoolExecutor(AT_ONCE) as callers:
        for burst in range(ROUNDS // AT_ONCE):
            claims = [
                request(server, api, f"burst-{burst}-{number}", devices[number % CARDS]) for number in range(AT_ONCE)
            ]
            taken += callers.map(lambda claim: timed(partial(prepare_one, plugin, claim)), claims)
            for claim in claims:
                unprepare_one(plugin, claim)
                forget(server, api, claim)
    return taken


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that some work takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def report(
    plugin: Running, alone: tuple[list[float], list[float], list[float], list[float]], burst: list[float]
) -> dict[str, object]:
    """Print the table, and return what is written."""
    prepare, unprepare, nothing, file = alone
    resident = plugin.resident_mib
    print(f"{CARDS} cards, {CLAIMS} claims prepared on the node, {ROUNDS} rounds; milliseconds\n")
    print(f"{'':34}{'p50':>8}{'p99':>8}   target")
    for name, figures in (
        ("prepare", prepare),
        (f"prepare, {AT_ONCE} at once, each", burst),
        ("unprepare", unprepare),
        ("control: a call that does nothing", nothing),
        ("control: one durable 4 KiB file", file),
    ):
        target = ", ".join(f"{key[-3:]} <= {value}" for key, value in TARGETS.items() if key.startswith(f"{name} "))
        print(f"{name:34}{quantile(figures, 50):8.2f}{quantile(figures, 99):8.2f}   {target}")
    print(f"\nresident MiB {resident:6.1f}   target <= {TARGETS['resident MiB']:.0f}")
    print(f"ready s      {plugin.ready_seconds:6.2f}   target <= {TARGETS['ready s']}")
    return {
        "prepare_ms": {"p50": quantile(prepare, 50), "p99": quantile(prepare, 99)},
        "prepare_at_once_ms": {"p50": quantile(burst, 50), "p99": quantile(burst, 99)},
        "unprepare_ms": {"p50": quantile(unprepare, 50), "p99": quantile(unprepare, 99)},
        "rss_mib": round(resident, 1),
        "ready_s": round(plugin.ready_seconds, 3),
    }


def quantile(figures: Sequence[float], percent: int) -> float:
    """The percentile, rounded to microseconds."""
    return round(statistics.quantiles(figures, n=100, method="inclusive")[percent - 1], 3)


if __name__ == "__main__":
    main()
