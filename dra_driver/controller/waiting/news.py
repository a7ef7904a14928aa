"""What the watch brings of claims and pods, as far as waiting goes; parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dra_driver.errors import ObjectRejected
from dra_driver.explain import pods
from dra_driver.explain.admission import Placing
from dra_driver.explain.objects import Claim, Wire
from dra_driver.explain.state import parse_claim
from dra_driver.kube.claims import READY, dotted

ANNOTATION = "vgpu.hami.io/explanation"


@dataclass(frozen=True)
class Unready:
    """What the node says of a device that it could not prepare."""

    device: str
    reason: str
    message: str


@dataclass(frozen=True)
class ClaimNews:
    """A claim as it is now; `written` is what an explanation of ours on it says, None where there is none."""

    claim: Claim
    resource_version: str
    created: str
    written: str | None
    unready: tuple[Unready, ...] = ()

    @property
    def allocated(self) -> bool:
        """Whether it has its cards."""
        return self.claim.status.allocation is not None


@dataclass(frozen=True)
class PodNews:
    """A pod that is on no node yet, and the names of the claims that it waits for."""

    namespace: str
    name: str
    uid: str
    placing: Placing
    claims: frozenset[str]
    observed: pods.Observed | None = None


class _Condition(Wire):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class _Device(Wire):
    driver: str
    device: str
    conditions: tuple[_Condition, ...] = ()


class _DeviceStatuses(Wire):
    devices: tuple[_Device, ...] = ()


def read_claim(wire: Mapping[str, Any], driver: str) -> ClaimNews:
    """Read a claim. Raises ObjectRejected."""
    claim = parse_claim(wire)
    metadata, status = wire["metadata"], wire.get("status") or {}
    return ClaimNews(
        claim,
        resource_version=str(metadata.get("resourceVersion", "")),
        created=str(metadata.get("creationTimestamp", "")),
        written=(metadata.get("annotations") or {}).get(ANNOTATION),
        unready=_unready(status, driver, claim.path) if status.get("devices") else (),
    )


def read_pod(wire: Mapping[str, Any]) -> PodNews | None:
    """Read a pod; None where it waits for no claims. Raises ObjectRejected."""
    metadata, spec, status = wire["metadata"], wire.get("spec") or {}, wire.get("status") or {}
    named = spec.get("resourceClaims")
    ended = status.get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in metadata
    if not named or spec.get("nodeName") or ended:
        return None
    made = status.get("resourceClaimStatuses") or ()
    claims = (str(one["resourceClaimName"]) for one in (*named, *made) if one.get("resourceClaimName"))
    names = str(metadata["namespace"]), str(metadata["name"]), str(metadata["uid"])
    placing, observed = pods.read_pod(wire)
    return PodNews(*names, placing, frozenset(claims), observed)


def _unready(status: Mapping[str, Any], driver: str, path: str) -> tuple[Unready, ...]:
    try:
        devices = _DeviceStatuses.model_validate(status).devices
    except ValidationError as error:
        first = error.errors()[0]
        where = dotted(("status", *first["loc"]))
        raise ObjectRejected(f"ResourceClaim {path}", where, first["msg"]) from error
    return tuple(
        Unready(one.device, condition.reason, condition.message)
        for one in devices
        for condition in one.conditions
        if one.driver == driver and condition.type == READY and condition.status == "False"
    )
