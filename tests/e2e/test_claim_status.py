"""`kubectl get resourceclaim -o yaml` answers "what did I get", and why not."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import grpc
import pytest

from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2, api_pb2_grpc
from tests.cluster.errors import CommandFailed
from tests.e2e.tenant import Tenant, Wire, grants
from tests.stack.places import EXAMPLES
from tests.stack.plugin import DRIVER
from tests.waiting import eventually


@pytest.fixture
def socket(tenant: Tenant) -> Iterator[api_pb2_grpc.DRAPluginStub]:
    """A client of the running plugin."""
    with grpc.insecure_channel(f"unix://{tenant.stack.plugin.dra_socket}") as channel:
        yield api_pb2_grpc.DRAPluginStub(channel)


def allocated(tenant: Tenant, name: str, device: str, node: str = "") -> api_pb2.Claim:
    """A claim whose allocation was written by hand: it stays when no pod uses it."""
    exactly = {"name": "slice", "exactly": {"deviceClassName": DRIVER}}
    claim: Wire = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}}
    tenant.apply({**claim, "spec": {"devices": {"requests": [exactly]}}})
    node = node or tenant.stack.cluster.node_name
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    result: Wire = {"request": "slice", "driver": DRIVER, "pool": f"{node}-nvidia", "device": device}
    result |= {"shareID": str(uuid.uuid4()), "consumedCapacity": {"memory": "1Gi", "cores": "10", "shares": "1"}}
    allocation = {
        "devices": {"results": [result]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]},
    }
    patch = json.dumps({"status": {"allocation": allocation}})
    tenant.kubectl("patch", "resourceclaim", name, "--subresource=status", "--type=merge", "-p", patch)
    uid = tenant.get("resourceclaim", name)["metadata"]["uid"]
    return api_pb2.Claim(namespace=tenant.namespace, name=name, uid=uid)


def devices_of(tenant: Tenant, claim: str) -> list[Wire]:
    devices: list[Wire] = tenant.get("resourceclaim", claim)["status"].get("devices") or []
    return devices


def ready(device: Wire) -> Wire:
    (condition,) = (one for one in device["conditions"] if one["type"] == "Ready")
    wire: Wire = condition
    return wire


def test_a_running_pods_claim_tells_what_each_share_is(tenant: Tenant) -> None:
    tenant.apply_folder(EXAMPLES / "two-cards")
    tenant.wait_running("two-cards")
    claim = tenant.claims_of("two-cards")["gpu"]
    devices = eventually(
        lambda: devices_of(tenant, claim["metadata"]["name"]), what="the claim's status names its devices"
    )
    uuids = {
        device["name"]: device["attributes"]["uuid"]["string"]
        for wire in tenant.stack.slices()
        for device in wire["spec"]["devices"]
    }
    assert {(device["device"], device["shareID"]) for device in devices} == {
        (grant.device, grant.share_id) for grant in grants(claim)
    }
    for device in devices:
        assert (ready(device)["status"], ready(device)["reason"]) == ("True", "Prepared")
        assert device["data"]["uuid"] == uuids[device["device"]]
        assert (device["data"]["memory"], device["data"]["cores"]) == ("4Gi", 30)
        assert device["data"]["computePolicy"] == "fixed"


def test_the_status_goes_when_the_claim_is_unprepared(tenant: Tenant, socket: api_pb2_grpc.DRAPluginStub) -> None:
    claim = allocated(tenant, "mine", tenant.stack.slices()[0]["spec"]["devices"][0]["name"])
    answer = socket.NodePrepareResources(api_pb2.NodePrepareResourcesRequest(claims=[claim])).claims[claim.uid]
    assert answer.error == ""
    eventually(lambda: devices_of(tenant, "mine"), what="the status names the device")
    socket.NodeUnprepareResources(api_pb2.NodeUnprepareResourcesRequest(claims=[claim]))
    eventually(lambda: not devices_of(tenant, "mine"), what="the status names no device")
    assert tenant.get("resourceclaim", "mine")["status"]["allocation"]


def test_a_claim_that_cannot_be_prepared_says_why(tenant: Tenant, socket: api_pb2_grpc.DRAPluginStub) -> None:
    claim = allocated(tenant, "mistaken", "gpu-none")
    answer = socket.NodePrepareResources(api_pb2.NodePrepareResourcesRequest(claims=[claim])).claims[claim.uid]
    (device,) = eventually(lambda: devices_of(tenant, "mistaken"), what="the status tells of the failure")
    assert (ready(device)["status"], ready(device)["reason"]) == ("False", "ObjectRejected")
    assert ready(device)["message"] == answer.error
    assert "data" not in device


def test_the_plugins_token_writes_no_status_for_another_node(tenant: Tenant) -> None:
    claim = allocated(tenant, "elsewhere", "gpu-0", node="another-node")
    result = tenant.get("resourceclaim", "elsewhere")["status"]["allocation"]["devices"]["results"][0]
    device = {key: result[key] for key in ("driver", "pool", "device", "shareID")}
    wire = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "elsewhere", "namespace": claim.namespace},
        "status": {"devices": [device]},
    }
    arguments = ["apply", "--server-side", "--subresource=status", "--field-manager=thief", "-f", "-"]
    with pytest.raises(CommandFailed, match="resourceclaims/driver"):
        tenant.stack.cluster.kubectl(*arguments, input=json.dumps(wire), kubeconfig=tenant.stack.places.kubeconfig)
