"""A program finds in its container what it was given, at the path that Kubernetes fixes (KEP-5304)."""

from __future__ import annotations

import json

import pytest

from tests.cluster.errors import CommandFailed
from tests.e2e.tenant import Tenant, Wire, grants, pod, template
from tests.stack.plugin import DRIVER

FOLDER = "/var/run/kubernetes.io/dra-device-attributes"


def documents(tenant: Tenant, pod_name: str, path: str) -> list[Wire]:
    """The JSON objects of a file in a container, one a line."""
    text = tenant.kubectl("exec", pod_name, "--", "cat", f"{FOLDER}/{path}/{DRIVER}-metadata.json")
    return [json.loads(line) for line in text.splitlines()]


def test_a_claim_from_a_template_is_found_by_its_name_in_the_pod(tenant: Tenant) -> None:
    tenant.apply(template("pair", {"left": {"memory": "1Gi", "cores": "10"}, "right": {"memory": "2Gi"}}))
    manifest = pod("reader", "exec sleep 3600", claim_template="pair")
    manifest["spec"]["securityContext"] = {"runAsUser": 4711, "runAsGroup": 4711}
    tenant.apply(manifest)
    tenant.wait_running("reader")
    claim = tenant.claims_of("reader")["gpu"]
    sizes = {"left": 1 << 30, "right": 2 << 30}
    for grant in grants(claim):
        found = documents(tenant, "reader", f"resourceclaimtemplates/gpu/{grant.request}")
        assert [one["apiVersion"].rpartition("/")[2] for one in found] == ["v1beta1", "v1alpha1"]
        for one in found:
            assert (one["metadata"]["uid"], one["podClaimName"]) == (claim["metadata"]["uid"], "gpu")
            (request,) = one["requests"]
            (device,) = request["devices"]
            assert (request["name"], device["name"]) == (grant.request, grant.device)
            assert device["attributes"]["grantedMemory"] == {"int": sizes[grant.request]}
            assert device["attributes"]["uuid"]["string"].startswith("GPU-")


def test_a_claim_that_the_pod_names_is_found_by_its_own_name_and_cannot_be_written(tenant: Tenant) -> None:
    spec = template("unused", {"slice": {"memory": "1Gi"}})["spec"]["spec"]
    tenant.apply(
        {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "mine"}, "spec": spec}
    )
    tenant.apply(pod("reader", "exec sleep 3600", claim="mine"))
    tenant.wait_running("reader")
    newest, _ = documents(tenant, "reader", "resourceclaims/mine/slice")
    assert newest["metadata"]["name"] == "mine"
    assert "podClaimName" not in newest
    path = f"{FOLDER}/resourceclaims/mine/slice/{DRIVER}-metadata.json"
    with pytest.raises(CommandFailed, match="Read-only file system"):
        tenant.kubectl("exec", "reader", "--", "sh", "-c", f"echo mine > {path}")
