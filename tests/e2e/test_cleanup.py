"""When a pod goes, nothing of it stays on the node, and what it held can be had again."""

from __future__ import annotations

from tests.e2e.tenant import Tenant, pod, template
from tests.stack.plugin import DRIVER
from tests.waiting import eventually


def files_of(tenant: Tenant) -> set[str]:
    """Names of the CDI files of claims, and of the folders of shares."""
    specs = tenant.stack.cluster.paths.cdi_dynamic.glob(f"{DRIVER}-claim-*.json")
    folders = (tenant.stack.places.state / "shares").iterdir()
    return {path.name for path in (*specs, *folders)}


def test_a_deleted_pod_leaves_nothing_and_frees_the_card(tenant: Tenant) -> None:
    before = files_of(tenant)
    tenant.apply(template("whole", {"slice": {"memory": "16Gi", "cores": "100"}}))
    for name in ("one", "two"):
        tenant.apply(pod(name, "exec sleep 3600", claim_template="whole"))
        tenant.wait_running(name)
    uid = tenant.claims_of("one")["gpu"]["metadata"]["uid"]
    assert uid in tenant.prepared()
    assert len(files_of(tenant) - before) == 4

    # Both cards are taken: a third pod waits, with an event that says so.
    tenant.apply(pod("three", "exec sleep 3600", claim_template="whole"))
    eventually(
        lambda: [event for event in tenant.events("three") if "FailedScheduling" in event],
        what="the third pod's event",
    )

    tenant.delete("pod", "one")
    eventually(lambda: uid not in tenant.prepared(), what="the claim is unprepared")
    assert not any(uid in name for name in files_of(tenant))
    tenant.wait_running("three")
    tenant.delete("pod", "two")
    tenant.delete("pod", "three")
    eventually(lambda: files_of(tenant) == before, what="no file of the pods is left")
