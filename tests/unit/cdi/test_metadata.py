"""Device metadata: the format and the paths of KEP-5304."""

from __future__ import annotations

import json

import pytest

from dra_driver.cdi.metadata import (
    DescribedDevice,
    Subject,
    container_path,
    is_metadata_device,
    metadata_device_id,
    metadata_document,
    metadata_spec,
)

DRIVER = "vgpu.hami.io"
NAMED = Subject("team-a", "mine", "u1")
MADE = Subject("team-a", "pod-gpu-x7k2p", "u2", pod_claim_name="gpu")
DEVICE = DescribedDevice("node-a-nvidia", "gpu-0", {"index": {"int": 0}})


def test_a_file_has_the_same_object_in_every_version_the_newest_first() -> None:
    text = metadata_document(DRIVER, MADE, "gpu/large", [DEVICE, DEVICE])
    newest, oldest = (json.loads(line) for line in text.splitlines())
    assert newest == {
        "kind": "DeviceMetadata",
        "apiVersion": "metadata.resource.k8s.io/v1beta1",
        "metadata": {"name": "pod-gpu-x7k2p", "namespace": "team-a", "uid": "u2", "generation": 1},
        "podClaimName": "gpu",
        "requests": [
            {
                "name": "gpu/large",
                "devices": [
                    {"driver": DRIVER, "pool": "node-a-nvidia", "name": "gpu-0", "attributes": {"index": {"int": 0}}}
                ]
                * 2,
            }
        ],
    }
    assert oldest == {**newest, "apiVersion": "metadata.resource.k8s.io/v1alpha1"}


def test_a_claim_that_pods_name_has_no_name_of_a_pods_own() -> None:
    assert b"podClaimName" not in metadata_document(DRIVER, NAMED, "gpu", [DEVICE])


@pytest.mark.parametrize(
    ("subject", "path"),
    [(NAMED, "resourceclaims/mine"), (MADE, "resourceclaimtemplates/gpu")],
)
def test_the_path_can_be_known_when_the_pod_is_written(subject: Subject, path: str) -> None:
    folder = "/var/run/kubernetes.io/dra-device-attributes"
    assert container_path(DRIVER, subject, "a") == f"{folder}/{path}/a/vgpu.hami.io-metadata.json"


def test_a_spec_has_a_read_only_file_for_each_request() -> None:
    spec = metadata_spec(DRIVER, NAMED, {"a": "/state/a.json", "b": "/state/b.json"}).to_json()
    assert spec["kind"] == "vgpu.hami.io/metadata"
    assert [device["name"] for device in spec["devices"]] == ["u1_a", "u1_b"]
    (mount,) = spec["devices"][1]["containerEdits"]["mounts"]
    assert mount == {
        "hostPath": "/state/b.json",
        "containerPath": container_path(DRIVER, NAMED, "b"),
        "options": ["ro", "nosuid", "nodev", "bind"],
    }
    assert metadata_device_id(DRIVER, "u1", "b") == "vgpu.hami.io/metadata=u1_b"
    assert is_metadata_device(DRIVER, "vgpu.hami.io/metadata=u1_b")
    assert not is_metadata_device(DRIVER, "vgpu.hami.io/share=u1_b")
