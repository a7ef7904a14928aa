"""What is counted of admission: how often it is asked, what it answers, how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dra_driver.controller.admission.review import Answer

# From a claim without a surprise to what the API server waits for at most.
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class AdmissionMetrics:
    """The metrics of admission, in the controller's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "vgpu_admission_requests_total",
            "Reviews that were asked for, by what came of them.",
            ("webhook", "outcome"),
            registry=registry,
        )
        self._refusals = Counter(
            "vgpu_admission_refusals_total", "Objects that were refused.", ("webhook", "reason"), registry=registry
        )
        self._warnings = Counter(
            "vgpu_admission_warnings_total", "Warnings that were given.", ("webhook", "reason"), registry=registry
        )
        self._duration = Histogram(
            "vgpu_admission_request_duration_seconds",
            "How long a review took.",
            ("webhook",),
            buckets=_SECONDS,
            registry=registry,
        )
        # Not known before there is one, and 0 would look like one that ended in 1970.
        self._ends = Gauge(
            "vgpu_admission_certificate_expiry_timestamp_seconds",
            "When the certificate that is served ends.",
            ("source",),
            registry=registry,
        )

    @contextmanager
    def measured(self, webhook: str) -> Iterator[None]:
        """Measure one review; one that ends by an exception is counted as an error."""
        begun = time.perf_counter()
        try:
            yield
        except BaseException:
            self._requests.labels(webhook, "error").inc()
            raise
        finally:
            self._duration.labels(webhook).observe(time.perf_counter() - begun)

    def answered(self, webhook: str, answer: Answer) -> None:
        """Count what was answered."""
        self._requests.labels(webhook, "allowed" if answer.refusal is None else "refused").inc()
        if answer.refusal is not None:
            self._refusals.labels(webhook, answer.refusal.reason).inc()
        for one in answer.warnings:
            self._warnings.labels(webhook, one.reason).inc()

    def serves_until(self, source: str, timestamp: float) -> None:
        """Note when the certificate ends; `source` is secret or folder."""
        self._ends.labels(source).set(timestamp)
