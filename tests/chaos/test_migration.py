"""Five hundred pods written for HAMi, created as fast as the API server takes them, and deleted again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from dra_driver.kube.connection import ServerConnection
from tests.cluster.errors import CommandFailed
from tests.e2e.tenant import Tenant
from tests.stack import admission
from tests.stack.balancer import Balancer
from tests.stack.controller import Replica, replicas
from tests.stack.stack import Stack
from tests.waiting import eventually

PODS = 500
SHAPES = 50
AT_ONCE = 8
SECONDS = 600.0


@pytest.fixture
def pair(stack: Stack) -> Iterator[list[Replica]]:
    """Two replicas that answer the API server by turns."""
    made = replicas(
        stack,
        2,
        admission_address="127.0.0.1:0",
        admission_names="127.0.0.1",
        admission_failure_policy="Fail",
        certificate_seconds="120",
        garbage_grace_seconds="2",
        lease_seconds="3",
    )
    with Balancer(lambda: [found for one in made if (found := admission.address_of(one))]) as balancer:
        admission.install(stack.cluster, balancer.address)
        try:
            for replica in made:
                replica.start()
            yield made
        finally:
            admission.uninstall(stack.cluster)
            for replica in made:
                replica.uninstall()


def hami_pod(name: str, mebibytes: int) -> dict[str, Any]:
    """A pod that is never scheduled, but gets its claim."""
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": str(mebibytes)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "schedulingGates": [{"name": "example.com/never"}],
            "containers": [{"name": "main", "image": "example.com/any", "resources": {"limits": limits}}],
        },
    }


async def every_pod(tenant: Tenant, method: str) -> None:
    """Create all pods, or delete them, some at once."""
    path = f"/api/v1/namespaces/{tenant.namespace}/pods"
    free = asyncio.Semaphore(AT_ONCE)
    async with await ServerConnection.open(str(tenant.stack.cluster.admin_kubeconfig)) as api:

        async def one(number: int) -> None:
            async with free:
                if method == "POST":
                    await api.request("POST", path, body=hami_pod(f"pod-{number}", 100 + number % SHAPES))
                else:
                    await api.request("DELETE", f"{path}/pod-{number}")

        await asyncio.gather(*(one(number) for number in range(PODS)))


def count(tenant: Tenant, kind: str) -> int:
    return len(tenant.kubectl("get", kind, "-o", "name").split())


def migrates(tenant: Tenant) -> bool:
    """Whether the API server asks the controller already."""
    wire = json.dumps(hami_pod("first", 1))
    try:
        return "resourceClaims" in tenant.kubectl("create", "--dry-run=server", "-o", "yaml", "-f", "-", stdin=wire)
    except CommandFailed:
        return False


def test_five_hundred_pods_leave_no_template_even_if_the_active_replica_dies_meanwhile(
    tenant: Tenant, pair: list[Replica]
) -> None:
    tenant.stack.cluster.kubectl("label", "namespace", tenant.namespace, "vgpu.hami.io/migrate=hami")
    kept = count(tenant, "resourceclaimtemplates")
    eventually(lambda: migrates(tenant), what="the API server asks the controller")
    asyncio.run(every_pod(tenant, "POST"))
    next(replica for replica in pair if replica.leads).kill()
    eventually(
        lambda: count(tenant, "resourceclaims") == PODS, what="every pod has its claim", timeout=SECONDS, every=1.0
    )
    assert count(tenant, "resourceclaimtemplates") == kept + SHAPES
    asyncio.run(every_pod(tenant, "DELETE"))
    eventually(lambda: count(tenant, "resourceclaims") == 0, what="claims are gone", timeout=SECONDS, every=1.0)
    eventually(
        lambda: count(tenant, "resourceclaimtemplates") == kept,
        what="templates are gone",
        timeout=SECONDS,
        every=1.0,
    )
