"""A batch over the real socket: bad claims get an error of their own, the good one succeeds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import grpc
import pytest

from dra_driver.kubeletplugin.pb.dra.v1 import api_pb2, api_pb2_grpc
from tests.e2e.tenant import Tenant, Wire, pod, template
from tests.stack.plugin import DRIVER
from tests.waiting import eventually


@pytest.fixture
def socket(tenant: Tenant) -> Iterator[api_pb2_grpc.DRAPluginStub]:
    """A client of the running plugin."""
    with grpc.insecure_channel(f"unix://{tenant.stack.plugin.dra_socket}") as channel:
        yield api_pb2_grpc.DRAPluginStub(channel)


def allocated(tenant: Tenant, name: str, driver: str, device: str) -> api_pb2.Claim:
    """A claim whose allocation was written by hand, so that the scheduler has no say in it."""
    tenant.apply(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name},
            "spec": {"devices": {"requests": [{"name": "slice", "exactly": {"deviceClassName": DRIVER}}]}},
        }
    )
    result: Wire = {"request": "slice", "driver": driver, "pool": f"{tenant.stack.cluster.node_name}-nvidia"}
    result |= {"device": device, "shareID": str(uuid.uuid4())}
    result |= {"consumedCapacity": {"memory": "1Gi", "cores": "10", "shares": "1"}}
    patch = {"status": {"allocation": {"devices": {"results": [result]}}}}
    tenant.kubectl("patch", "resourceclaim", name, "--subresource=status", "--type=merge", "-p", json.dumps(patch))
    uid = tenant.get("resourceclaim", name)["metadata"]["uid"]
    return api_pb2.Claim(namespace=tenant.namespace, name=name, uid=uid)


def test_bad_claims_fail_alone(tenant: Tenant, socket: api_pb2_grpc.DRAPluginStub) -> None:
    device = tenant.stack.slices()[0]["spec"]["devices"][0]["name"]
    good = allocated(tenant, "good", DRIVER, device)
    foreign = allocated(tenant, "foreign", "other.example.com", device)
    unknown = allocated(tenant, "unknown", DRIVER, "gpu-none")
    gone = allocated(tenant, "gone", DRIVER, device)
    tenant.delete("resourceclaim", "gone")
    replaced = api_pb2.Claim(namespace=tenant.namespace, name="good", uid=str(uuid.uuid4()))
    hostile = api_pb2.Claim(namespace="../../etc", name="passwd", uid="../../../tmp/x")

    claims = [foreign, good, unknown, gone, replaced, hostile]
    answer = socket.NodePrepareResources(api_pb2.NodePrepareResourcesRequest(claims=claims)).claims
    try:
        assert {uid for uid, entry in answer.items() if not entry.error} == {good.uid}
        assert [device.device_name for device in answer[good.uid].devices] == [device]
        assert "nothing of driver vgpu.hami.io (there is other.example.com)" in answer[foreign.uid].error
        assert "results[0].device" in answer[unknown.uid].error
        assert "gpu-none is not on this node" in answer[unknown.uid].error
        assert "does not exist" in answer[gone.uid].error
        assert "was replaced" in answer[replaced.uid].error
        assert "namespace" in answer[hostile.uid].error
        assert tenant.prepared() & {claim.uid for claim in claims} == {good.uid}
    finally:
        undone = socket.NodeUnprepareResources(api_pb2.NodeUnprepareResourcesRequest(claims=claims)).claims
    assert {uid for uid, entry in undone.items() if entry.error} == {hostile.uid}
    assert not tenant.prepared() & {claim.uid for claim in claims}


def test_a_card_is_not_given_out_twice_whatever_the_allocations_say(
    tenant: Tenant, socket: api_pb2_grpc.DRAPluginStub
) -> None:
    device = tenant.stack.slices()[0]["spec"]["devices"][0]["name"]
    claims = [allocated(tenant, f"claim-{number}", DRIVER, device) for number in range(11)]
    answer = socket.NodePrepareResources(api_pb2.NodePrepareResourcesRequest(claims=claims)).claims
    refused = [entry.error for entry in answer.values() if entry.error]
    socket.NodeUnprepareResources(api_pb2.NodeUnprepareResourcesRequest(claims=claims))
    assert len(refused) == 1, "the card takes ten shares of ten percent"
    assert "more do not fit" in refused[0]
    assert f"ResourceClaim {tenant.namespace}/claim-" in refused[0]


def test_a_bad_field_of_a_claim_is_named_on_its_pod(tenant: Tenant) -> None:
    parameters = {"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "VgpuConfig", "computePolicie": "burst"}
    config = [{"opaque": {"driver": DRIVER, "parameters": parameters}}]
    tenant.apply(template("typo", {"slice": {"memory": "1Gi", "cores": "10"}}, config=config))
    tenant.apply(pod("waiting", "exec sleep 3600", claim_template="typo"))
    events = eventually(
        lambda: [event for event in tenant.events("waiting") if "FailedPrepareDynamicResources" in event],
        what="the kubelet's event on the pod",
    )
    assert "config[0].opaque.parameters.computePolicie: unknown field" in events[0]
    assert tenant.get("pod", "waiting")["status"]["phase"] == "Pending"
