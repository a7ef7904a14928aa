"""What the plugin counts and measures, for Prometheus.

Names are those of NVIDIA's driver where they mean the same (`nvidia_dra_requests_total` is `vgpu_dra_requests_total`),
units are base units, ratios go from 0 to 1. A label never holds a value that changes by itself, and what is not known
has no series: the state of cards and shares is read when it is asked for, so that a series is never older than that.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dra_driver.kube.claims import ClaimRef
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim, PreparedShare
from dra_driver.kubeletplugin.publish import Pool
from dra_driver.kubeletplugin.service import Prepares, reason_of
from dra_driver.kubeletplugin.share_metrics import ShareMetrics
from drivers.backend import Fault, Notice
from drivers.model import Device

PREPARE = "prepare"
UNPREPARE = "unprepare"

# From an answer out of the record to the kubelet's time-out.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 45.0)

# About a millisecond's worth of writing.
_SAMPLES_AT_ONCE = 100


class Metrics:
    """All of the plugin's own metrics, in a registry of their own."""

    def __init__(self, *, driver: str, clock: Callable[[], float] = time.time) -> None:
        # A second series beside each counter, which tells only when the process began to count.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._driver = driver
        self._clock = clock
        self._shares: ShareMetrics | None = None
        of_call = ("driver", "operation")
        self._requests = self._counter("vgpu_dra_requests_total", "Claims that were asked for and answered.", *of_call)
        self._errors = {
            operation: self._counter(
                f"vgpu_dra_node_{operation}_errors_total", "Of those, answered by an error.", "driver", "error_type"
            )
            for operation in (PREPARE, UNPREPARE)
        }
        self._duration = Histogram(
            "vgpu_dra_request_duration_seconds",
            "How long a claim took.",
            of_call,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._inflight = Gauge(
            "vgpu_dra_requests_inflight", "Claims that are being worked on.", of_call, registry=self.registry
        )
        self._misses = self._counter(
            "vgpu_dra_claim_cache_misses_total", "Claims that had to be read from the API server.", "driver", "reason"
        )
        self._writes = self._counter("vgpu_dra_slice_writes_total", "ResourceSlices written.", "driver", "operation")
        self._failures = self._counter("vgpu_dra_publishing_errors_total", "Attempts to publish that failed.", "driver")
        self._published_at = Gauge(
            "vgpu_dra_last_published_timestamp_seconds",
            "When the slices were last found or made true.",
            ("driver",),
            registry=self.registry,
        )
        self._missing = Gauge(
            "vgpu_dra_missing_feature_gate",
            "1 for each feature gate that the API server was found to lack.",
            ("driver", "feature_gate"),
            registry=self.registry,
        )
        self._configurations = self._counter(
            "vgpu_dra_configuration_changes_total", "Changes of the configuration file.", "driver", "outcome"
        )
        self._faults = self._counter(
            "vgpu_card_faults_total", "Faults of cards that were heard of.", "device_uuid", "code"
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """What has not happened yet is 0, not unknown."""
        self._of_operation = {
            operation: (
                self._inflight.labels(self._driver, operation),
                self._requests.labels(self._driver, operation),
                self._duration.labels(self._driver, operation),
            )
            for operation in (PREPARE, UNPREPARE)
        }
        self._failures.labels(self._driver)

    def measured(self, preparation: Prepares) -> Prepares:
        """Measure every claim that goes to `preparation`."""
        return _Measured(preparation, self)

    @contextmanager
    def request(self, operation: str) -> Iterator[None]:
        """Measure what happens inside as one claim's request."""
        begun = time.perf_counter()
        inflight, requests, duration = self._of_operation[operation]
        inflight.inc()
        try:
            yield
        except Exception as error:
            self._errors[operation].labels(self._driver, reason_of(error)).inc()
            raise
        finally:
            inflight.dec()
            requests.inc()
            duration.observe(time.perf_counter() - begun)

    def claim_read(self, reason: str) -> None:
        """Count a claim that the cache could not answer."""
        self._misses.labels(self._driver, reason).inc()

    def wrote(self, operation: str) -> None:
        """Count a slice that was created, replaced or deleted (publisher.Progress)."""
        self._writes.labels(self._driver, operation).inc()

    def published(self) -> None:
        """Note that the server shows what it should (publisher.Progress)."""
        self._published_at.labels(self._driver).set(self._clock())

    def failed(self) -> None:
        """Count an attempt that failed (publisher.Progress)."""
        self._failures.labels(self._driver).inc()

    def missing(self, feature_gates: Collection[str]) -> None:
        """Show which feature gates the server lacks, and no others (publisher.Progress)."""
        self._missing.clear()
        for gate in feature_gates:
            self._missing.labels(self._driver, gate).set(1)

    def configured(self, taken: bool) -> None:
        """Count a change of the configuration."""
        self._configurations.labels(self._driver, "taken" if taken else "refused").inc()

    def noticed(self, notice: Notice) -> None:
        """Count a fault of a card."""
        if isinstance(notice, Fault):
            self._faults.labels(notice.device_uuid, notice.code).inc()

    def show(
        self,
        *,
        node: str,
        pools: Callable[[], Sequence[Pool]],
        cards: Callable[[], Sequence[Device]],
        claims: Callable[[], Sequence[PreparedClaim]],
        shares: Callable[[str], Path],
    ) -> None:
        """Add the state of the node's cards and shares, as these tell it when they are asked.

        `shares` tells the folder of a share by its key.
        """
        self.registry.register(_NodeState(self._driver, node, pools, cards, claims))
        self._shares = ShareMetrics(driver=self._driver, node=node, claims=claims, shares=shares)

    def families(self) -> Iterator[Metric | None]:
        """Tell everything; None between two pieces of work, each of about a millisecond."""
        yield from self.registry.collect()
        if self._shares is not None:
            yield from self._shares.collect()

    def text(self) -> Iterator[bytes]:
        """Write everything as Prometheus reads it, in parts."""
        for family in self.families():
            if family is None:
                yield b""
            else:
                yield from _written(family)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)


def _written(family: Metric) -> Iterator[bytes]:
    """Write a family in parts of some samples; what it means is said in the first alone."""
    for start in range(0, max(len(family.samples), 1), _SAMPLES_AT_ONCE):
        part = copy.copy(family)
        part.samples = family.samples[start : start + _SAMPLES_AT_ONCE]
        text = generate_latest(_One(part))
        yield text if start == 0 else b"".join(line for line in text.splitlines(True) if not line.startswith(b"#"))


class _One(Collector):
    """A registry of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """Tell it."""
        return (self._family,)


class _Measured:
    def __init__(self, preparation: Prepares, metrics: Metrics) -> None:
        self._preparation = preparation
        self._metrics = metrics

    async def prepare(self, ref: ClaimRef) -> tuple[PreparedShare, ...]:
        with self._metrics.request(PREPARE):
            return await self._preparation.prepare(ref)

    async def unprepare(self, ref: ClaimRef) -> None:
        with self._metrics.request(UNPREPARE):
            await self._preparation.unprepare(ref)


class _NodeState(Collector):
    """Cards, what is promised of them, and what is published."""

    def __init__(
        self,
        driver: str,
        node: str,
        pools: Callable[[], Sequence[Pool]],
        cards: Callable[[], Sequence[Device]],
        claims: Callable[[], Sequence[PreparedClaim]],
    ) -> None:
        self._driver = driver
        self._node = node
        self._pools = pools
        self._cards = cards
        self._claims = claims

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: the registry would ask for all series at once."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Tell the state now."""
        shares = [share for claim in self._claims() for share in claim.shares]
        yield self._published()
        yield from self._of_cards(self._cards(), shares)

    def _published(self) -> Metric:
        family = GaugeMetricFamily(
            "vgpu_dra_published_devices", "Devices in the slices of a pool.", labels=("node", "driver", "pool")
        )
        for pool in self._pools():
            family.add_metric((self._node, self._driver, pool.name), len(pool.devices))
        return family

    def _of_cards(self, cards: Sequence[Device], shares: Sequence[PreparedShare]) -> Iterable[Metric]:
        labels = ("node", "driver", "vendor", "device_uuid")
        families = {
            name: GaugeMetricFamily(name, meaning, labels=labels)
            for name, meaning in (
                ("vgpu_dra_prepared_devices", "Shares that are prepared on a card."),
                ("vgpu_card_healthy", "1 for a card that takes new work, 0 for one that does not."),
                ("vgpu_card_memory_bytes", "Memory of a card that can be given away."),
                ("vgpu_card_memory_promised_bytes", "Of that, promised to claims."),
                ("vgpu_card_cores_promised_ratio", "Compute of a card that is promised to claims."),
            )
        }
        for card in cards:
            own = [share for share in shares if share.device_uuid == card.uuid]
            values = (
                len(own),
                0 if card.unhealthy else 1,
                card.memory.value,
                sum(share.memory for share in own),
                sum(share.cores for share in own) / card.cores.value,
            )
            for family, value in zip(families.values(), values, strict=True):
                family.add_metric((self._node, self._driver, card.vendor, card.uuid), value)
        return families.values()
