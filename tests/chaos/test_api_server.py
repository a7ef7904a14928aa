"""The API server is away for a minute while pods come and go."""

from __future__ import annotations

import time

from tests.chaos.stream import Stream
from tests.e2e.aftermath import check_room
from tests.e2e.tenant import Tenant

AWAY_SECONDS = 60.0


def containers(tenant: Tenant) -> set[str]:
    """The containers that run, each with the number of its starts."""
    return {
        f"{status['containerID']} {status['restartCount']}"
        for pod in tenant.every("pods")
        for status in pod["status"].get("containerStatuses", [])
        if "running" in status["state"]
    }


def test_pods_go_on_while_the_api_server_is_away_and_all_others_run_when_it_is_back(
    tenant: Tenant, pods: Stream
) -> None:
    cluster, plugin = tenant.stack.cluster, tenant.stack.plugin
    pods.more(3)
    running = plugin.running
    before = containers(tenant)
    books = {process for card in tenant.stack.cards.state() for process in card.processes}
    cluster.stop("kube-apiserver")
    try:
        time.sleep(AWAY_SECONDS)
        assert plugin.running == running, "the plugin lives without an API server"
        assert len([one for card in tenant.stack.cards.state() for one in card.processes]) >= min(len(books), 1)
    finally:
        cluster.start("kube-apiserver")
    assert before & containers(tenant), "what ran before runs still"
    pods.more(6)
    pods.end()
    check_room(tenant)
    pods.check_prepared()
