"""Pods, as far as they use claims."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from dra_driver.kube.connection import Connection, JsonObject

_PAGE = "250"
_ENDED = ("Succeeded", "Failed")


async def pods_of(connection: Connection, namespace: str) -> AsyncIterator[JsonObject]:
    """Yield the pods of a namespace as they are now. Raises KubeError."""
    query = {"limit": _PAGE}
    while True:
        answer = await connection.request("GET", f"/api/v1/namespaces/{namespace}/pods", query=query)
        for wire in answer.get("items") or ():
            yield wire
        token = (answer.get("metadata") or {}).get("continue")
        if not token:
            return
        query = {"limit": _PAGE, "continue": str(token)}


def names_claim(pod: Mapping[str, Any], claim: str) -> bool:
    """Tell whether a pod that has not ended uses a claim that has this name, made for it or not."""
    status = pod.get("status") or {}
    if status.get("phase") in _ENDED:
        return False
    named = [entry.get("resourceClaimName") for entry in (pod.get("spec") or {}).get("resourceClaims") or ()]
    made = [entry.get("resourceClaimName") for entry in status.get("resourceClaimStatuses") or ()]
    extended = (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    return claim in (*named, *made, extended)
