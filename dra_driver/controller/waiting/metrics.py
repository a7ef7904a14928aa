"""What the controller measures of waiting claims, for Prometheus: reasons and times, and no names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_EXPLAINED = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_WAITED = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_WORKED = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class WaitingMetrics:
    """Registered with the controller's own."""

    def __init__(
        self, registry: CollectorRegistry, *, waiting: Callable[[], Mapping[str, int]], queued: Callable[[], int]
    ) -> None:
        registry.register(_Now(waiting, queued))
        self._written = Counter(
            "vgpu_claim_explanations_total",
            "Explanations of waiting claims: written, ended, put off, dropped (the claim is gone), failed.",
            ("outcome",),
            registry=registry,
        )
        self._explained = Histogram(
            "vgpu_claim_explanation_seconds",
            "From when a claim began to wait until it said why.",
            buckets=_EXPLAINED,
            registry=registry,
        )
        self._waited = Histogram(
            "vgpu_claim_wait_seconds", "How long claims waited that had said why.", buckets=_WAITED, registry=registry
        )
        self._worked = Histogram(
            "vgpu_claim_judging_seconds",
            "How long it took to look at what changed about one kind of waiting claim.",
            buckets=_WORKED,
            registry=registry,
        )

    def wrote(self, outcome: str) -> None:
        """Count a writing."""
        self._written.labels(outcome).inc()

    def explained(self, seconds: float) -> None:
        """Note how long a new waiting claim had no explanation."""
        self._explained.observe(seconds)

    def waited(self, seconds: float) -> None:
        """Note how long a claim waited."""
        self._waited.observe(seconds)

    def worked(self, seconds: float) -> None:
        """Note how long a look took."""
        self._worked.observe(seconds)


class _Now(Collector):
    def __init__(self, waiting: Callable[[], Mapping[str, int]], queued: Callable[[], int]) -> None:
        self._waiting = waiting
        self._queued = queued

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: the registry would ask for all series at once."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Tell the state now."""
        family = GaugeMetricFamily(
            "vgpu_waiting_claims", "Claims that wait and say why, by the code of the first reason.", labels=("reason",)
        )
        for reason, number in sorted(self._waiting().items()):
            family.add_metric((reason,), number)
        yield family
        yield GaugeMetricFamily(
            "vgpu_controller_claims_queued", "Waiting claims that are yet to be looked at.", value=self._queued()
        )
