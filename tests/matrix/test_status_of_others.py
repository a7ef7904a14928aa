"""Before 1.36 nothing holds a node plugin to its own claims: docs/security.md warns of it, and this is why."""

from __future__ import annotations

import json

from tests.e2e.tenant import Tenant, Wire, grants, template
from tests.e2e.test_claim_status import allocated
from tests.stack.plugin import DRIVER


def write_as_plugin(tenant: Tenant, name: str, status: Wire) -> Wire:
    """Apply a claim's status with the plugin's token; returns the claim as it then is. Raises CommandFailed."""
    metadata = {"name": name, "namespace": tenant.namespace}
    wire = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata, "status": status}
    tenant.stack.cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--subresource=status", "--field-manager=thief", "-f", "-"),
        input=json.dumps(wire),
        kubeconfig=tenant.stack.places.kubeconfig,
    )
    return tenant.get("resourceclaim", name)


def test_the_plugin_s_token_writes_of_devices_on_another_node(tenant: Tenant) -> None:
    allocated(tenant, "elsewhere", "gpu-0", node="another-node")
    device = {"driver": DRIVER, "pool": "another-node-nvidia", "device": "gpu-0", "data": {"written": "here"}}
    (written,) = write_as_plugin(tenant, "elsewhere", {"devices": [device]})["status"]["devices"]
    assert written["data"] == {"written": "here"}


def test_the_plugin_s_token_gives_a_claim_a_device_beside_the_scheduler(tenant: Tenant) -> None:
    spec = template("wanted", {"slice": {}})["spec"]["spec"]
    metadata = {"name": "wanted"}
    tenant.apply({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata, "spec": spec})
    result = {"request": "slice", "driver": DRIVER, "pool": "another-node-nvidia", "device": "gpu-0"}
    claim = write_as_plugin(tenant, "wanted", {"allocation": {"devices": {"results": [result]}}})
    assert [grant.device for grant in grants(claim)] == ["gpu-0"]
