"""The kubelet is restarted again and again, in good order and killed, while pods come and go."""

from __future__ import annotations

import random
import time

from tests.chaos.stream import Stream
from tests.cluster import processes
from tests.cluster.control import LocalControl
from tests.e2e.aftermath import check_room
from tests.e2e.tenant import Tenant

RESTARTS = 12
LONGEST_PAUSE_SECONDS = 4.0


def test_pods_run_and_slices_are_there_after_a_storm_of_kubelet_restarts(tenant: Tenant, pods: Stream) -> None:
    cluster, plugin = tenant.stack.cluster, tenant.stack.plugin
    running = plugin.running
    chance = random.Random(5)
    pods.more(2)
    for number in range(RESTARTS):
        if number % 2:
            kill_kubelet(tenant)
        cluster.restart("kubelet")
        time.sleep(chance.uniform(0, LONGEST_PAUSE_SECONDS))
    tenant.stack.wait_published()
    assert plugin.running == running, "the plugin is the same as before"
    pods.more(6)
    pods.end()
    check_room(tenant)
    pods.check_prepared()


def kill_kubelet(tenant: Tenant) -> None:
    """End it as a crash does."""
    control = tenant.stack.cluster.control
    assert isinstance(control, LocalControl)
    processes.stop([processes.recorded(control.plan.paths)["kubelet"].pid], grace=0)
