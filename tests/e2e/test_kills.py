"""The plugin is killed again and again while pods start: all run in the end, and nothing is left behind.

The short form of what `make test-chaos` does for minutes.
"""

from __future__ import annotations

import functools
import time

from tests.e2e.aftermath import check_nothing_left, check_room
from tests.e2e.tenant import Tenant, pod, template
from tests.waiting import eventually

KILLS = 4
PAUSE_SECONDS = 1.5
PODS = [f"pod-{number}" for number in range(12)]


def test_a_plugin_that_is_killed_again_and_again_loses_no_pod_and_leaves_nothing(tenant: Tenant) -> None:
    plugin = tenant.stack.plugin
    before = tenant.prepared()
    tenant.apply(template("sliver", {"sliver": {"memory": "1Gi", "cores": "5"}}))
    tenant.apply(*(pod(name, "exec sleep 3600", claim_template="sliver") for name in PODS))
    try:
        for _ in range(KILLS):
            time.sleep(PAUSE_SECONDS)
            plugin.kill()
            plugin.start()
    finally:
        plugin.start()
    for name in PODS:
        eventually(functools.partial(runs, tenant, name), what=f"{name} runs", timeout=180)
    assert len(tenant.prepared() - before) == len(PODS)
    check_room(tenant)
    tenant.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=120s", "--grace-period=1")
    eventually(lambda: tenant.prepared() == before, what="all claims are unprepared", timeout=120)
    check_nothing_left(tenant.stack)


def runs(tenant: Tenant, name: str) -> bool:
    """Tell whether a pod runs."""
    return bool(tenant.get("pod", name)["status"]["phase"] == "Running")
