"""Reviews as the API server sends them."""

from __future__ import annotations

import json
from typing import Any

from dra_driver.controller.admission.review import Review, parse_review

JsonObject = dict[str, Any]
DRIVER = "vgpu.hami.io"
UID = "11111111-2222-3333-4444-555555555555"


def config(driver: str = DRIVER, **fields: Any) -> JsonObject:
    """One entry of a config list."""
    parameters = {"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "VgpuConfig", **fields}
    return {"opaque": {"driver": driver, "parameters": parameters}}


def claim(*configs: JsonObject, requests: list[JsonObject] | None = None) -> JsonObject:
    """A claim with one request of our class."""
    asked = requests if requests is not None else [{"name": "gpu", "exactly": {"deviceClassName": DRIVER}}]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "train", "namespace": "team-a"},
        "spec": {"devices": {"requests": asked, "config": list(configs)}},
    }


def template(*configs: JsonObject, **fields: Any) -> JsonObject:
    """A template of such a claim."""
    spec = claim(*configs, **fields)["spec"]
    return {"kind": "ResourceClaimTemplate", "metadata": {"name": "t", "namespace": "team-a"}, "spec": {"spec": spec}}


def device_class(*configs: JsonObject) -> JsonObject:
    """A class with these configs."""
    return {"kind": "DeviceClass", "metadata": {"name": "fast"}, "spec": {"config": list(configs)}}


def question(
    new: JsonObject | None, old: JsonObject | None = None, *, version: str = "v1", **request: Any
) -> JsonObject:
    """An AdmissionReview about an object: CREATE, or UPDATE where there is an old one."""
    shown = new or old or {}
    metadata = shown.get("metadata") or {}
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": "resource.k8s.io", "version": version, "kind": shown.get("kind", "ResourceClaim")},
            "resource": {"group": "resource.k8s.io", "version": version, "resource": "any"},
            "operation": "UPDATE" if old and new else "CREATE" if new else "DELETE",
            "name": metadata.get("name", ""),
            "namespace": metadata.get("namespace", ""),
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": new,
            "oldObject": old,
            "dryRun": False,
            **request,
        },
    }


def review(new: JsonObject | None, old: JsonObject | None = None, **fields: Any) -> Review:
    """The same, read."""
    return parse_review(json.dumps(question(new, old, **fields)).encode())
