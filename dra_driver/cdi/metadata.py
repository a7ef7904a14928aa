"""Device metadata (KEP-5304): what a program finds in its container of the devices that it was given. Pure.

One file per request of a claim, at a path that the author of a pod can know beforehand. The format is that of Go's
kubeletplugin library: the same object in every version that there is, the newest first, one after the other.
Source: k8s.io/dynamic-resource-allocation/api/metadata (doc.go, v1beta1/types.go) and kubeletplugin/metadata.go, 0.37.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dra_driver.cdi.spec import BindMount, CdiDevice, Edits, Spec, device_id

CONTAINER_FOLDER = "/var/run/kubernetes.io/dra-device-attributes"
VERSIONS = ("metadata.resource.k8s.io/v1beta1", "metadata.resource.k8s.io/v1alpha1")


@dataclass(frozen=True)
class Subject:
    """The claim that a file speaks of. `pod_claim_name` is empty where pods name the claim itself."""

    namespace: str
    name: str
    uid: str
    pod_claim_name: str = ""


@dataclass(frozen=True)
class DescribedDevice:
    """One device of a request; `attributes` as in a ResourceSlice, by qualified name."""

    pool: str
    name: str
    attributes: Mapping[str, Any]


def metadata_document(driver: str, subject: Subject, request: str, devices: Sequence[DescribedDevice]) -> bytes:
    """Write the file of one request, which is named as in the allocation: `request` or `request/alternative`."""
    identity = {"name": subject.name, "namespace": subject.namespace, "uid": subject.uid, "generation": 1}
    content: dict[str, Any] = {"metadata": identity}
    if subject.pod_claim_name:
        content["podClaimName"] = subject.pod_claim_name
    listed = [
        {"driver": driver, "pool": device.pool, "name": device.name, "attributes": dict(device.attributes)}
        for device in devices
    ]
    content["requests"] = [{"name": request, "devices": listed}]
    documents = ({"kind": "DeviceMetadata", "apiVersion": version, **content} for version in VERSIONS)
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def metadata_spec(driver: str, subject: Subject, files: Mapping[str, str]) -> Spec:
    """Describe the files of one claim: a device for each request. `files`: paths on the host by request."""
    return Spec(
        _kind(driver),
        tuple(
            CdiDevice(_device(subject.uid, request), Edits(mounts=(_mount(driver, subject, request, path),)))
            for request, path in files.items()
        ),
    )


def metadata_device_id(driver: str, claim_uid: str, request: str) -> str:
    """Name the CDI device of a request's file."""
    return device_id(_kind(driver), _device(claim_uid, request))


def is_metadata_device(driver: str, device: str) -> bool:
    """Tell whether a CDI device is such a file."""
    return device.startswith(f"{_kind(driver)}=")


def container_path(driver: str, subject: Subject, request: str) -> str:
    """Tell where a container finds the file of a request."""
    claim = (
        f"resourceclaimtemplates/{subject.pod_claim_name}"
        if subject.pod_claim_name
        else f"resourceclaims/{subject.name}"
    )
    return f"{CONTAINER_FOLDER}/{claim}/{request}/{driver}-metadata.json"


def _mount(driver: str, subject: Subject, request: str, path: str) -> BindMount:
    return BindMount(path, container_path(driver, subject, request), read_only=True)


def _kind(driver: str) -> str:
    return f"{driver}/metadata"


def _device(claim_uid: str, request: str) -> str:
    return f"{claim_uid}_{request}"
