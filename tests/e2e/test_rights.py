"""The node plugin can do what it must, and nothing more."""

from __future__ import annotations

import json

import pytest

from tests.cluster.errors import CommandFailed
from tests.stack.stack import Stack


def as_plugin(stack: Stack, *arguments: str, stdin: str | None = None) -> str:
    return stack.cluster.kubectl(*arguments, input=stdin, kubeconfig=stack.places.kubeconfig)


@pytest.mark.parametrize("what", ["secrets", "pods", "configmaps", "nodes"])
def test_it_cannot_list(stack: Stack, what: str) -> None:
    with pytest.raises(CommandFailed, match="forbidden"):
        as_plugin(stack, "get", what, "--all-namespaces")


def test_it_cannot_change_claims(stack: Stack) -> None:
    for verb in ("create", "update", "delete"):
        with pytest.raises(CommandFailed):
            as_plugin(stack, "auth", "can-i", verb, "resourceclaims", "--all-namespaces")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nodeName": "another-node"}, "of that node only"),
        ({"driver": "other.example.com"}, "driver vgpu.hami.io only"),
    ],
)
def test_it_cannot_write_slices_of_others(stack: Stack, change: dict[str, str], reason: str) -> None:
    own = stack.slices()[0]["spec"]
    pool = {"name": "stolen", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": own["driver"], "nodeName": own["nodeName"], "pool": pool, "devices": [], **change}
    wire = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "stolen"}, "spec": spec}
    with pytest.raises(CommandFailed, match=reason):
        as_plugin(stack, "create", "-f", "-", stdin=json.dumps(wire))
