"""Requests by verb and resource, as RBAC names them."""

from __future__ import annotations

import pytest

from dra_driver.controller.counting import resource_of, verb_of

DRA = "/apis/resource.k8s.io/v1"


@pytest.mark.parametrize(
    ("method", "path", "verb", "resource"),
    [
        ("GET", "/api/v1/namespaces", "list", "namespaces"),
        ("GET", "/api/v1/namespaces/team-a", "get", "namespaces"),
        ("GET", "/api/v1/namespaces/team-a/pods", "list", "pods"),
        ("GET", "/api/v1/namespaces/team-a/pods/train", "get", "pods"),
        ("GET", f"{DRA}/resourceclaims", "list", "resourceclaims"),
        ("PATCH", f"{DRA}/namespaces/team-a/resourceclaims/train/status", "patch", "resourceclaims/status"),
        ("DELETE", f"{DRA}/namespaces/team-a/resourceclaimtemplates/t", "delete", "resourceclaimtemplates"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/hami-dra/leases/l", "update", "leases"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/team-a/events", "create", "events"),
        ("GET", DRA, "get", "other"),
        ("GET", "/version", "get", "other"),
    ],
)
def test_a_request_is_counted_without_the_name_of_any_object(method: str, path: str, verb: str, resource: str) -> None:
    assert (verb_of(method, path), resource_of(path)) == (verb, resource)


def test_a_watch_is_no_listing() -> None:
    assert verb_of("GET", f"{DRA}/resourceclaims", watches=True) == "watch"
