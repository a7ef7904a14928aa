"""What the controller counts and measures of itself, for Prometheus.

Parts of the controller that measure something of their own register it in the same registry. A label never holds a
tenant's object or a value that changes by itself, and what is not known has no series.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

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

# From a look into a dictionary to a listing's worth of work.
_SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """The controller's own metrics. May be called from any thread."""

    def __init__(self) -> None:
        # A second series beside each counter, which tells only when the process began to count.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._leads = False
        self._leading = Gauge(
            "vgpu_controller_leader", "1 on the replica that holds the Lease, 0 on the others.", registry=self.registry
        )
        self._calls = self._counter(
            "vgpu_controller_api_calls_total",
            "Requests to the API server; code is empty where there was no answer.",
            *("verb", "resource", "code"),
        )
        self._watches = self._counter(
            "vgpu_controller_watch_starts_total", "Watches that were begun, or begun anew.", "kind"
        )
        self._listings = self._counter(
            "vgpu_controller_listings_total", "Listings: more than one means that a watch had to start over.", "kind"
        )
        self._restarts = self._counter(
            "vgpu_controller_watch_failures_total", "Times that all watches ended in an error and were begun anew."
        )
        self._failures = self._counter(
            "vgpu_controller_failures_total", "Times that a part of the controller failed and was begun anew.", "part"
        )
        self._seconds = Histogram(
            "vgpu_controller_object_seconds",
            "How long the controller took to take in a changed object.",
            ("kind",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._restarts.inc(0)

    def led(self, leading: bool) -> None:
        """Note whether this replica leads."""
        self._leads = leading
        self._leading.set(1 if leading else 0)

    def leads(self) -> bool:
        """Tell whether this replica leads: figures of the cluster are shown by one replica alone."""
        return self._leads

    def called(self, verb: str, resource: str, code: int) -> None:
        """Count a request; `code` is 0 where there was no answer."""
        self._calls.labels(verb, resource, str(code or "")).inc()

    def watch_started(self, kind: str) -> None:
        """Count a watch."""
        self._watches.labels(kind).inc()

    def listing_started(self, kind: str) -> None:
        """Count a listing."""
        self._listings.labels(kind).inc()

    def watching_failed(self) -> None:
        """Count an end of all watches that nobody asked for."""
        self._restarts.inc()

    def failed(self, part: str) -> None:
        """Count a failure of a part."""
        self._failures.labels(part).inc()

    @contextmanager
    def taking_in(self, kind: str) -> Iterator[None]:
        """Measure what happens inside as the taking in of one object."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(kind).observe(time.perf_counter() - begun)

    def show(self, *, waiting: Callable[[], int], existing: Callable[[], Mapping[str, int]]) -> None:
        """Add what is known now: how many changes wait to be taken in, and how many objects exist of each kind."""
        self.registry.register(_Known(waiting, existing))

    def text(self) -> bytes:
        """Write everything as Prometheus reads it."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)


class _Known(Collector):
    def __init__(self, waiting: Callable[[], int], existing: Callable[[], Mapping[str, int]]) -> None:
        self._waiting = waiting
        self._existing = existing

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: the registry would ask for all series at once."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Tell the state now."""
        yield GaugeMetricFamily(
            "vgpu_controller_changes_waiting", "Changes that are yet to be taken in.", value=self._waiting()
        )
        family = GaugeMetricFamily("vgpu_controller_objects", "Objects that are watched.", labels=("kind",))
        for kind, number in self._existing().items():
            family.add_metric((kind,), number)
        yield family
