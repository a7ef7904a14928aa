"""What the plugin needs is away for a while: pods wait, with a reason where it is the node's, and run when it is back.

The short form of what `make test-chaos` does for minutes.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.commands import run
from tests.cluster.errors import NotSupported
from tests.e2e.aftermath import check_nothing_left, check_room
from tests.e2e.tenant import Tenant, Wire, pod, template
from tests.waiting import eventually

AWAY_SECONDS = 5.0
PODS = [f"pod-{number}" for number in range(6)]
SIZE = 4 << 20


@pytest.fixture
def crowd(tenant: Tenant) -> Iterator[Tenant]:
    """A tenant whose pods have just been asked for; they run in the end, and leave nothing."""
    tenant.apply(template("sliver", {"sliver": {"memory": "1Gi", "cores": "5"}}))
    tenant.apply(*(lasting(name) for name in PODS))
    yield tenant
    for name in PODS:
        eventually(functools.partial(runs, tenant, name), what=f"{name} runs", timeout=180)
    check_room(tenant)
    tenant.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=120s")
    eventually(lambda: not tenant.prepared(), what="all claims are unprepared", timeout=120)
    check_nothing_left(tenant.stack)


def lasting(name: str) -> Wire:
    """A pod whose container is started again: a kubelet that ends takes the starts along that it has asked for."""
    wire = pod(name, "exec sleep 3600", claim_template="sliver")
    wire["spec"]["restartPolicy"] = "Always"
    return wire


def runs(tenant: Tenant, name: str) -> bool:
    """Tell whether a pod's container runs."""
    since = "{.status.containerStatuses[0].state.running.startedAt}"
    return bool(tenant.kubectl("get", "pod", name, "-o", f"jsonpath={since}"))


def test_pods_run_when_the_api_server_is_back(crowd: Tenant) -> None:
    cluster, plugin = crowd.stack.cluster, crowd.stack.plugin
    running = plugin.running
    try:
        cluster.stop("kube-apiserver")
    except NotSupported as reason:
        pytest.skip(str(reason))
    try:
        time.sleep(AWAY_SECONDS)
    finally:
        cluster.start("kube-apiserver")
    assert plugin.running == running


def test_pods_run_though_the_kubelet_is_restarted_again_and_again(crowd: Tenant) -> None:
    try:
        for _ in range(3):
            crowd.stack.cluster.restart("kubelet")
    except NotSupported as reason:
        pytest.skip(str(reason))
    crowd.stack.wait_published()


@pytest.fixture
def small_disk(tenant: Tenant, tmp_path: Path) -> Iterator[Path]:
    """The plugin's state folder, on a disk that is quickly full."""
    plugin = tenant.stack.plugin
    plugin.stop()
    run(("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "tmpfs", str(tmp_path)))
    try:
        plugin.start(state_folder=str(tmp_path))
        yield tmp_path
        tenant.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=120s")
        eventually(lambda: not tenant.prepared(), what="all claims are unprepared")
    finally:
        plugin.stop()
        run(("umount", "--lazy", str(tmp_path)))
        plugin.start()


def test_a_pod_waits_for_a_full_disk_with_its_reason_and_runs_when_it_is_not(tenant: Tenant, small_disk: Path) -> None:
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    tenant.apply(template("sliver", {"sliver": {"memory": "1Gi", "cores": "5"}}))
    tenant.apply(pod("waits", "exec sleep 3600", claim_template="sliver"))
    told = f"No space left on device: '{small_disk}"
    eventually(lambda: any(told in event for event in tenant.events("waits")), what="the pod's events tell why")
    (claim,) = tenant.every("resourceclaims")
    (device,) = eventually(
        lambda: tenant.get("resourceclaim", claim["metadata"]["name"])["status"].get("devices"),
        what="the claim tells why",
    )
    assert told in device["conditions"][0]["message"]
    filler.unlink()
    tenant.wait_running("waits")
