"""What is done to the large cluster while it is measured, and what is seen of it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from dra_driver.controller.waiting.news import ANNOTATION
from tests.bench.controller.cluster import LargeCluster, at_rate
from tests.bench.controller.controller_process import Running

_CALM_SECONDS = 20.0
_CHANGES_PER_SECOND = 2.0
_WRITES_PER_TURN = 2
# A kubelet writes its node's status every five minutes.
_BEAT_SECONDS = 300.0
WAITING = 200
_WAITING_PER_SECOND = 4.0
_KINDS = 20
_DEADLINE = 60.0


@dataclass(frozen=True)
class Calm:
    """The controller's processor time while claims come and go."""

    percent: float
    milliseconds_per_change: float


@dataclass
class Waits:
    """Seconds from each new waiting claim to its explanation, and from its creation to our own watch of it."""

    begun: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    written: dict[str, float] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    all_told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def explained(self) -> list[float]:
        """One figure a claim."""
        return [self.told[name] - begun for name, begun in self.begun.items()]

    @property
    def control(self) -> list[float]:
        """The same of a watch."""
        return [self.heard[name] - written for name, written in self.written.items()]


async def steady(cluster: LargeCluster, running: Running) -> Calm:
    """Claims come and go, nodes say that they live."""
    begun, cpu = time.monotonic(), running.cpu_seconds
    beats = at_rate(len(cluster.nodes) / _BEAT_SECONDS, _CALM_SECONDS, cluster.beat)
    turns = at_rate(_CHANGES_PER_SECOND, _CALM_SECONDS, lambda number: cluster.turn(number % cluster.claims))
    beaten, turned = await asyncio.gather(beats, turns)
    changes = beaten + _WRITES_PER_TURN * turned
    used = running.cpu_seconds - cpu
    return Calm(100 * used / (time.monotonic() - begun), 1000 * used / changes)


async def waits(cluster: LargeCluster) -> Waits:
    """New claims that fit nowhere, of some kinds, one after the other."""
    found = Waits()
    watcher = asyncio.create_task(_watch(cluster, found))

    async def one(number: int) -> None:
        name = f"waits-{number:04d}"
        found.written[name] = time.monotonic()
        found.begun[name] = await cluster.wait(name, f"{75 + number % _KINDS}Gi")

    await at_rate(_WAITING_PER_SECOND, WAITING / _WAITING_PER_SECOND, one)
    try:
        async with asyncio.timeout(_DEADLINE):
            await found.all_told.wait()
    except TimeoutError as error:
        missing = found.begun.keys() - found.told.keys()
        raise RuntimeError(f"{len(missing)} claims were never explained, as {min(missing)}") from error
    finally:
        watcher.cancel()
    return found


async def _watch(cluster: LargeCluster, found: Waits) -> None:
    path = "/apis/resource.k8s.io/v1/resourceclaims"
    listed = await cluster.connection.request("GET", path, query={"limit": "1"})
    query = {"resourceVersion": str(listed["metadata"]["resourceVersion"])}
    async for event in cluster.connection.watch(path, query=query):
        metadata = event["object"]["metadata"]
        name = str(metadata["name"])
        found.heard.setdefault(name, time.monotonic())
        if ANNOTATION in (metadata.get("annotations") or {}):
            found.told.setdefault(name, time.monotonic())
            if len(found.told) == WAITING:
                found.all_told.set()


def quantiles(figures: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    cuts = statistics.quantiles(figures, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)}
