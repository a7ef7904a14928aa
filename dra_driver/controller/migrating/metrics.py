"""What the controller counts of the claim templates that it makes for migrated pods."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class TemplateMetrics:
    """Registered with the controller's own."""

    def __init__(self, registry: CollectorRegistry, *, existing: Callable[[], int]) -> None:
        gauge = Gauge("vgpu_controller_templates", "Claim templates that exist for migrated pods.", registry=registry)
        gauge.set_function(existing)
        self._changes = Counter(
            "vgpu_controller_template_changes_total",
            "Claim templates that were created for migrated pods, or removed after them; or attempts that failed.",
            ("outcome",),
            registry=registry,
        )
        for outcome in ("created", "removed", "failed"):
            self._changes.labels(outcome)

    def created(self) -> None:
        """Count one that was made."""
        self._changes.labels("created").inc()

    def removed(self) -> None:
        """Count one that was removed."""
        self._changes.labels("removed").inc()

    def failed(self) -> None:
        """Count an attempt that failed."""
        self._changes.labels("failed").inc()
