"""What Kubernetes takes back of allocations by itself, and what it leaves to the controller."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.tenant import Tenant, Wire, pod
from tests.stack.controller import Replica, replicas
from tests.stack.plugin import DRIVER
from tests.stack.stack import Stack
from tests.waiting import eventually

GONE = "e2e-gone-node"
TAKEN_BACK = "AllocationTakenBack"


@pytest.fixture(scope="module")
def controller(stack: Stack) -> Iterator[Replica]:
    (replica,) = replicas(stack, 1, garbage_grace_seconds="1")
    yield replica
    replica.uninstall()


@pytest.fixture
def acting(controller: Replica) -> Replica:
    """The controller, once it acts."""
    controller.start()
    eventually(lambda: controller.leads, what="the controller leads")
    return controller


def claim(name: str) -> Wire:
    """A claim of a person's own."""
    asked = {"deviceClassName": DRIVER, "capacity": {"requests": {"memory": "1Gi"}}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": asked}]}},
    }


def allocate(tenant: Tenant, name: str, node: str) -> None:
    """Write an allocation without a user, as a scheduler leaves it that gives a pod up after allocating."""
    result = {
        "request": "gpu",
        "driver": DRIVER,
        "pool": f"{node}-nvidia",
        "device": "gpu-0",
        "shareID": "6f0bb1f4-9d0b-4d0a-9c57-000000000001",
        "consumedCapacity": {"memory": "1Gi", "cores": "0", "shares": "1"},
    }
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    allocation = {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": [term]}}
    wire = {**tenant.get("resourceclaim", name), "status": {"allocation": allocation}}
    tenant.kubectl("replace", "--subresource=status", "-f", "-", stdin=json.dumps(wire))


def reserve_for_ghost(tenant: Tenant, name: str) -> None:
    """Write a user that does not exist."""
    ghost = {"resource": "pods", "name": "ghost", "uid": "11111111-0000-0000-0000-000000000000"}
    haunted = json.dumps({"status": {"reservedFor": [ghost]}})
    tenant.kubectl("patch", "resourceclaim", name, "--subresource=status", "--type=merge", "-p", haunted)


def wait_ghost_gone(tenant: Tenant, name: str) -> None:
    """Wait until Kubernetes' own controller has taken that user away."""
    eventually(lambda: not tenant.get("resourceclaim", name).get("status", {}).get("reservedFor"), what="no ghost")


def allocated(tenant: Tenant, name: str) -> bool:
    return bool(tenant.get("resourceclaim", name).get("status", {}).get("allocation"))


def test_kubernetes_itself_frees_a_claim_whose_last_pod_goes_and_forgets_users_that_never_were(
    stack: Stack, tenant: Tenant, controller: Replica
) -> None:
    controller.stop()
    tenant.apply(claim("used"), claim("haunted"))
    tenant.apply(pod("user", "sleep 3600", claim="used"))
    allocate(tenant, "haunted", stack.cluster.node_name)
    ghost = (
        '{"status":{"reservedFor":[{"resource":"pods","name":"ghost","uid":"11111111-0000-0000-0000-000000000000"}]}}'
    )
    tenant.kubectl("patch", "resourceclaim", "haunted", "--subresource=status", "--type=merge", "-p", ghost)
    tenant.wait_running("user")
    tenant.delete("pod", "user")
    eventually(lambda: not tenant.get("resourceclaim", "haunted")["status"].get("reservedFor"), what="no ghost is left")
    eventually(lambda: not allocated(tenant, "used"), what="the used claim is free")


def test_an_allocation_without_a_user_that_kubernetes_leaves_is_taken_back(
    stack: Stack, tenant: Tenant, controller: Replica
) -> None:
    controller.stop()
    tenant.apply(claim("here"), claim("gone"), claim("wanted"))
    for name, node in (("here", stack.cluster.node_name), ("gone", GONE), ("wanted", stack.cluster.node_name)):
        allocate(tenant, name, node)
    gated = pod("waits", "true", claim="wanted")
    gated["spec"]["schedulingGates"] = [{"name": "example.com/not-yet"}]
    tenant.apply(gated)
    # Once this one is free, Kubernetes has looked at those before it.
    tenant.apply(claim("haunted"))
    allocate(tenant, "haunted", stack.cluster.node_name)
    reserve_for_ghost(tenant, "haunted")
    wait_ghost_gone(tenant, "haunted")
    assert all(allocated(tenant, name) for name in ("here", "gone", "wanted"))
    controller.start()
    for name in ("here", "gone"):
        _wait_taken_back(tenant, name)
    assert "no longer exists" in _events(tenant, "gone")[0]
    assert "no longer exists" not in _events(tenant, "here")[0]
    assert allocated(tenant, "wanted")


def test_a_claim_that_was_freed_is_allocated_anew_for_a_pod(tenant: Tenant, acting: Replica) -> None:
    tenant.apply(claim("again"))
    allocate(tenant, "again", GONE)
    _wait_taken_back(tenant, "again")
    tenant.apply(pod("user", "sleep 3600", claim="again"))
    tenant.wait_running("user")


def _wait_taken_back(tenant: Tenant, name: str) -> None:
    """Wait until a claim is free and that was told, once."""
    eventually(lambda: not allocated(tenant, name), what=f"{name} is free")
    assert len(eventually(lambda: _events(tenant, name), what=f"{name} is told")) == 1


def _events(tenant: Tenant, name: str) -> list[str]:
    return [line for line in tenant.events(name) if line.startswith(TAKEN_BACK)]
