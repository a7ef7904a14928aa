"""ResourceClaims as the API server would hand them out: builders of wire dicts with an allocation in them.

Written as users and the scheduler write them (quantities as text), so that parsing is part of every test.
"""

from __future__ import annotations

import uuid
from typing import Any

DRIVER = "vgpu.hami.io"
FOREIGN_DRIVER = "nic.example.com"
NODE = "node-a"
POOL = f"{NODE}-nvidia"
NAMESPACE = "team-a"

JsonObject = dict[str, Any]


def claim_uid(name: str) -> str:
    """The UID that a claim of this name has unless a test gives another."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def share(
    request: str,
    device: str,
    *,
    memory: str = "4Gi",
    cores: str = "30",
    share_id: str = "aaaa0001",
    pool: str = POOL,
) -> JsonObject:
    """One result that is a share of a card."""
    consumed = {"memory": memory, "cores": cores, "shares": "1"}
    return {**whole_device(request, device, pool=pool), "shareID": share_id, "consumedCapacity": consumed}


def whole_device(request: str, device: str, *, pool: str = POOL) -> JsonObject:
    """One result that is a card as a whole: no share, no consumed capacity."""
    return {"request": request, "driver": DRIVER, "pool": pool, "device": device}


def foreign(request: str) -> JsonObject:
    """One result of somebody else's driver."""
    return {"request": request, "driver": FOREIGN_DRIVER, "pool": "nics", "device": "eth1"}


def vgpu_config(**fields: Any) -> JsonObject:
    """Opaque parameters of ours."""
    return {"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "VgpuConfig", **fields}


def opaque(parameters: JsonObject, *requests: str, source: str = "FromClaim", driver: str = DRIVER) -> JsonObject:
    """An entry of `status.allocation.devices.config`."""
    return {"source": source, "requests": list(requests), "opaque": {"driver": driver, "parameters": parameters}}


def unallocated(name: str, *, uid: str = "") -> JsonObject:
    """A claim that waits for the scheduler."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "namespace": NAMESPACE,
            "name": name,
            "uid": uid or claim_uid(name),
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": DRIVER}}]}},
    }


def allocated(name: str, *results: JsonObject, config: list[JsonObject] | None = None, uid: str = "") -> JsonObject:
    """A claim that the scheduler has allocated."""
    devices = {"results": list(results), "config": config or []}
    return {**unallocated(name, uid=uid), "status": {"allocation": {"devices": devices, "nodeSelector": {}}}}
