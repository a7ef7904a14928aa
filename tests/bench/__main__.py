"""Prepare and Unprepare over the socket, beside targets and beside two controls taken in the same run.

The controls say how fast this machine is just now: one call over the same kind of socket that does nothing (GetInfo),
one small file put in place durably, and one new file, of which a Prepare makes three beside a folder: where many were
removed a moment ago (by tests, say), ext4 looks long for a number that it may use again. The folder for CDI specs is in
memory, as /var/run is on a node.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2
from dra_driver.kubeletplugin.pb.pluginregistration.v1 import api_pb2 as registration_pb2
from drivers.files import write_whole
from tests.bench.api_server import HttpApi
from tests.bench.plugin_process import NODE, Running, running_plugin
from tests.bench.stages import Figures, stages
from tests.stack.cards import SimulatedCards
from tests.stack.places import ROOT
from tests.support.api import SLICES, MemoryApi
from tests.support.claims import allocated, share
from tests.waiting import eventually

CARDS = 16
CLAIMS = 200
ROUNDS = 200
AT_ONCE = 16
TARGETS = {
    "prepare p50": 2.0,
    "prepare p99": 5.0,
    "unprepare p50": 2.0,
    "unprepare p99": 5.0,
    "resident MiB": 80.0,
    "ready s": 1.5,
}
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Alone:
    """Milliseconds of each call, while nothing else is called."""

    prepare: list[float] = field(default_factory=list)
    unprepare: list[float] = field(default_factory=list)
    nothing: list[float] = field(default_factory=list)
    file: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class AtOnce:
    """Milliseconds of each call of a burst, and of each burst from its first call to its last answer."""

    each: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print, and write build/bench.json."""
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir=memory) as cdi:
        figures = measure(Path(name), Path(cdi))
    target = ROOT / "build/bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\nwritten to {target.relative_to(ROOT)}")


def measure(folder: Path, cdi: Path) -> dict[str, object]:
    """One plugin with many cards and claims, measured while nothing else calls it."""
    description = folder / "cards.json"
    description.write_text(json.dumps({"count": CARDS}))
    (folder / "cdi").symlink_to(made(cdi / "plugin"))
    cards = SimulatedCards(folder / "cards", folder / "cdi")
    cards.install(description)
    api = MemoryApi(node=NODE)
    with HttpApi(api) as server:
        kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
        with running_plugin(folder, cards, kubeconfig, CLAIMS // CARDS + AT_ONCE + 4) as plugin:
            devices = published(api)
            for number in range(CLAIMS):
                prepare_one(plugin, request(server, api, f"claim-{number}", devices[number % CARDS]))
            settled(api)
            alone = rounds(plugin, server, api, devices[0], folder / "control")
            figures = report(plugin, alone, bursts(plugin, server, api, devices))
    parts = stages(made(folder / "stages"), made(cdi / "stages"), cards=CARDS, claims=CLAIMS, rounds=ROUNDS)
    return figures | {"stages_ms": told(parts)}


def made(folder: Path) -> Path:
    """Make a folder."""
    folder.mkdir()
    return folder


def published(api: MemoryApi) -> list[str]:
    """The names of the cards, once they are all published."""

    def names() -> list[str]:
        return [device["name"] for wire in list(api.slices.values()) for device in wire["spec"]["devices"]]

    eventually(lambda: len(names()) == CARDS, what=f"all cards are in {SLICES}")
    return names()


def settled(api: MemoryApi) -> None:
    """Wait until the status of every claim is written: a node that has many claims got them one after the other."""
    eventually(lambda: api.writes().count("PATCH") == CLAIMS, what="every claim's status is written")


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


def rounds(plugin: Running, server: HttpApi, api: MemoryApi, device: str, control: Path) -> Alone:
    """Interleave what is measured with the controls.

    A claim is allocated well before the kubelet asks for it: between the two lies the start of a pod.
    """
    alone = Alone()
    coming = request(server, api, "round-0", device)
    for number in range(ROUNDS):
        claim = coming
        alone.file.append(timed(lambda: write_whole(control, b"x" * 4096, mode=0o600)))
        alone.new.append(timed(control.with_name(f"new-{number}").touch))
        alone.nothing.append(timed(lambda: plugin.registration.GetInfo(registration_pb2.InfoRequest())))
        alone.prepare.append(timed(partial(prepare_one, plugin, claim)))
        alone.unprepare.append(timed(partial(unprepare_one, plugin, claim)))
        forget(server, api, claim)
        coming = request(server, api, f"round-{number + 1}", device)
    return alone


def bursts(plugin: Running, server: HttpApi, api: MemoryApi, devices: Sequence[str]) -> AtOnce:
    """Many prepares at the same moment."""
    at_once = AtOnce()
    with ThreadPoolExecutor(AT_ONCE) as callers:
        for burst in range(ROUNDS // AT_ONCE):
            claims = [
                request(server, api, f"burst-{burst}-{number}", devices[number % CARDS]) for number in range(AT_ONCE)
            ]
            begun = time.perf_counter()
            at_once.each.extend(callers.map(lambda claim: timed(partial(prepare_one, plugin, claim)), claims))
            at_once.whole.append((time.perf_counter() - begun) * 1000)
            for claim in claims:
                unprepare_one(plugin, claim)
                forget(server, api, claim)
    return at_once


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that some work takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def report(plugin: Running, alone: Alone, at_once: AtOnce) -> dict[str, object]:
    """Print the table, and return what is written."""
    resident = plugin.resident_mib
    print(f"{CARDS} cards, {CLAIMS} claims prepared on the node, {ROUNDS} rounds; milliseconds\n")
    print(f"{'':44}{'p50':>8}{'p99':>8}   target")
    for name, figures in (
        ("prepare", alone.prepare),
        ("unprepare", alone.unprepare),
        (f"prepare, {AT_ONCE} at once, each", at_once.each),
        (f"prepare, {AT_ONCE} at once, divided by {AT_ONCE}", [burst / AT_ONCE for burst in at_once.whole]),
        ("control: a call that does nothing", alone.nothing),
        ("control: one durable 4 KiB file", alone.file),
        ("control: one new file", alone.new),
    ):
        target = ", ".join(f"{key[-3:]} <= {value}" for key, value in TARGETS.items() if key.startswith(f"{name} "))
        print(f"{name:44}{quantile(figures, 50):8.2f}{quantile(figures, 99):8.2f}   {target}")
    print(f"\nresident MiB {resident:6.1f}   target <= {TARGETS['resident MiB']:.0f}")
    print(f"ready s      {plugin.ready_seconds:6.2f}   target <= {TARGETS['ready s']}")
    return {
        "prepare_ms": both(alone.prepare),
        "unprepare_ms": both(alone.unprepare),
        "prepare_at_once_ms": both(at_once.each),
        "prepares_a_second_at_once": round(AT_ONCE * 1000 / quantile(at_once.whole, 50), 1),
        "prepares_a_second_one_by_one": round(1000 / quantile(alone.prepare, 50), 1),
        "control_call_ms": both(alone.nothing),
        "control_file_ms": both(alone.file),
        "control_new_file_ms": both(alone.new),
        "rss_mib": round(resident, 1),
        "ready_s": round(plugin.ready_seconds, 3),
        "targets": TARGETS,
    }


def told(parts: Figures) -> dict[str, dict[str, float]]:
    """Print where the time goes, and return it."""
    print(f"\n{'where it goes, in a process without a socket':44}{'p50':>8}{'p99':>8}   times a round")
    for name, figures in parts.items():
        print(f"{name:44}{quantile(figures, 50):8.2f}{quantile(figures, 99):8.2f}   {len(figures) / ROUNDS:.1f}")
    return {name.strip(): both(figures) for name, figures in parts.items()}


def both(figures: Sequence[float]) -> dict[str, float]:
    """The two percentiles that are written."""
    return {"p50": quantile(figures, 50), "p99": quantile(figures, 99)}


def quantile(figures: Sequence[float], percent: int) -> float:
    """The percentile, rounded to microseconds."""
    return round(statistics.quantiles(figures, n=100, method="inclusive")[percent - 1], 3)


if __name__ == "__main__":
    main()
