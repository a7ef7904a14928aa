"""Restarts of the kubelet and of the plugin, expected or not, leave running work alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.errors import NotSupported
from tests.e2e.tenant import Tenant, pod, template
from tests.stack.plugin import REGISTERED
from tests.waiting import eventually


@pytest.fixture
def running(tenant: Tenant) -> Iterator[Tenant]:
    """A tenant with a pod that holds memory; the plugin runs again afterwards."""
    tenant.apply(template("slice", {"slice": {"memory": "4Gi", "cores": "30"}}))
    tenant.apply(pod("first", "vgpu-probe hold --memory 1Gi --seconds 3600", claim_template="slice"))
    tenant.wait_running("first")
    tenant.told("first")
    yield tenant
    tenant.stack.plugin.start()


def identity(tenant: Tenant, name: str) -> list[tuple[str, int]]:
    """What changes when a container is restarted."""
    statuses: list[dict[str, Any]] = tenant.get("pod", name)["status"]["containerStatuses"]
    return [(status["containerID"], status["restartCount"]) for status in statuses]


def check_unharmed_and_next_pod_starts(tenant: Tenant, before: list[tuple[str, int]]) -> None:
    assert identity(tenant, "first") == before
    assert any(process.bytes >= 1 << 30 for card in tenant.stack.cards.state() for process in card.processes)
    tenant.apply(pod("second", "exec sleep 3600", claim_template="slice"))
    tenant.wait_running("second")
    assert tenant.show("second")["cuda"][0]["total"] == 4 << 30


def test_slices_are_back_after_a_kubelet_restart(running: Tenant) -> None:
    before = identity(running, "first")
    seen = running.stack.plugin.log.count(REGISTERED)
    try:
        running.stack.cluster.restart("kubelet")
    except NotSupported as reason:
        pytest.skip(str(reason))
    eventually(lambda: running.stack.plugin.log.count(REGISTERED) > seen, what="registered again", every=0.05)
    registered = time.monotonic()
    eventually(lambda: any(wire["spec"].get("devices") for wire in running.stack.slices()), what="slices are back")
    assert time.monotonic() - registered < 5
    check_unharmed_and_next_pod_starts(running, before)


def test_slices_are_back_after_somebody_deleted_them(running: Tenant) -> None:
    before = {wire["metadata"]["uid"] for wire in running.stack.slices()}
    running.stack.cluster.kubectl("delete", "resourceslices", "--all")
    eventually(
        lambda: {wire["metadata"]["uid"] for wire in running.stack.slices()} - before, what="new slices are published"
    )


def test_a_killed_plugin_goes_on_where_it_was(running: Tenant) -> None:
    before = identity(running, "first")
    running.stack.plugin.kill()
    # A dead process leaves its sockets; the next one takes their place.
    assert running.stack.plugin.dra_socket.exists()
    running.stack.plugin.start()
    check_unharmed_and_next_pod_starts(running, before)


def test_a_stopped_plugin_removes_its_sockets_and_keeps_the_pods(running: Tenant) -> None:
    before = identity(running, "first")
    running.stack.plugin.stop()
    assert not running.stack.plugin.dra_socket.exists()
    assert not running.stack.plugin.registration_socket.exists()
    assert identity(running, "first") == before
    running.stack.plugin.start()
    check_unharmed_and_next_pod_starts(running, before)


def test_a_pod_deleted_while_the_plugin_is_away_is_cleaned_up_when_it_is_back(running: Tenant) -> None:
    uid = running.claims_of("first")["gpu"]["metadata"]["uid"]
    running.stack.plugin.stop()
    running.kubectl("delete", "pod", "first", "--wait=false")
    running.stack.plugin.start()
    eventually(lambda: running.try_get("pod", "first") is None, what="the pod is gone", timeout=180)
    eventually(lambda: uid not in running.prepared(), what="the claim is unprepared")
