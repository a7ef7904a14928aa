"""A hundred pods of one share each, started at once on one node with eight cards."""

from __future__ import annotations

import random
import threading
import time

from tests.e2e.aftermath import check_room
from tests.e2e.tenant import Tenant, pod
from tests.waiting import eventually

PODS = 100
SECONDS = 600.0


def phases(tenant: Tenant) -> list[str]:
    """How all pods of the tenant are."""
    return tenant.kubectl("get", "pods", "-o", "jsonpath={.items[*].status.phase}").split()


def test_a_hundred_pods_at_once_all_run_while_the_plugin_is_killed_meanwhile(tenant: Tenant) -> None:
    plugin = tenant.stack.plugin
    wires = [
        pod(
            f"pod-{number}",
            "exec vgpu-probe hold --memory 128Mi --seconds 3600" if number % 10 == 0 else "exec sleep 3600",
            claim_template="sliver",
        )
        for number in range(PODS)
    ]
    over = threading.Event()
    killer = threading.Thread(target=kill_now_and_then, args=(tenant, over), name="killer")
    killer.start()
    try:
        tenant.apply(*wires)
        eventually(lambda: phases(tenant).count("Running") == PODS, what=f"{PODS} pods run", timeout=SECONDS, every=2.0)
    finally:
        over.set()
        killer.join(120)
    plugin.start()
    check_room(tenant)
    assert len(tenant.prepared()) == PODS
    assert sum(len(claim["shares"]) for claim in plugin.prepared()) == PODS
    assert len([one for card in tenant.stack.cards.state() for one in card.processes]) == PODS // 10


def kill_now_and_then(tenant: Tenant, over: threading.Event) -> None:
    """Kill the plugin while it has most to do, and let it come back."""
    chance = random.Random(7)
    for _ in range(4):
        if over.wait(chance.uniform(3, 12)):
            return
        tenant.stack.plugin.kill()
        time.sleep(chance.uniform(0, 2))
        tenant.stack.plugin.start()
