"""What Prometheus sees of a share is what its containers do on the card."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.tenant import Tenant, pod, template
from tests.waiting import eventually

MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def measured(tenant: Tenant) -> Iterator[Tenant]:
    """A tenant whose node's plugin tells metrics."""
    plugin = tenant.stack.plugin
    plugin.stop()
    plugin.start(http_address="127.0.0.1:0")
    yield tenant
    plugin.stop()
    plugin.start()


def series(tenant: Tenant) -> dict[str, float]:
    """The series of the tenant's shares by name, and by kind where there are some."""
    entries = [json.loads(line) for line in tenant.stack.plugin.log.splitlines() if '"http_serving"' in line]
    with urllib.request.urlopen(f"http://{entries[-1]['address']}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {
        " ".join(filter(None, (sample.name.removeprefix("vgpu_share_"), sample.labels.get("kind")))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("namespace") == tenant.namespace
    }


def test_memory_compute_and_refusals_of_a_share_are_measured(measured: Tenant) -> None:
    measured.apply(template("part", {"part": {"memory": "2Gi", "cores": "25"}}))
    measured.apply(pod("works", "exec vgpu-probe fill --seconds 3600", claim_template="part"))
    measured.wait_running("works")
    measured.told("works")
    figures = eventually(
        lambda: found if (found := series(measured)).get("memory_used_bytes", 0) > GIB else None, what="memory is seen"
    )
    assert (figures["memory_limit_bytes"], figures["cores_limit_ratio"], figures["processes"]) == (2 * GIB, 0.25, 1)
    assert 2 * GIB - 4 * MIB < figures["memory_used_bytes"] <= 2 * GIB
    assert figures["memory_used_bytes"] <= figures["memory_peak_bytes"] <= 2 * GIB
    kinds = [value for name, value in figures.items() if name.startswith("memory_kind_bytes")]
    assert sum(kinds) == figures["memory_used_bytes"]
    assert figures["refused_allocations_total"] > 0
    assert "accounting_unreadable" not in figures
    measured.delete("pod", "works")
    eventually(lambda: not series(measured), what="no series is left of the share")


def test_a_share_that_computes_is_seen_busy_and_held_back(measured: Tenant) -> None:
    measured.apply(template("part", {"part": {"memory": "1Gi", "cores": "20"}}))
    measured.apply(pod("spins", "exec vgpu-probe spin --seconds 3600", claim_template="part"))
    measured.wait_running("spins")
    first = eventually(lambda: held_back(measured), what="the share is held back")
    later = eventually(
        lambda: found if (found := series(measured))["launches_total"] > first["launches_total"] else None,
        what="the share goes on",
    )
    assert later["busy_seconds_total"] >= first["busy_seconds_total"] > 0
    assert later["last_launch_timestamp_seconds"] >= first["last_launch_timestamp_seconds"] > 1e9


def held_back(tenant: Tenant) -> dict[str, float] | None:
    """The series, once the share has computed and was held back."""
    figures = series(tenant)
    wanted = ("launches_total", "busy_seconds_total", "throttled_seconds_total", "last_launch_timestamp_seconds")
    return figures if all(figures.get(name) for name in wanted) else None
