"""ResourceClaims: what the plugin reads of them, parsed once.

Only the allocation matters on the node: the results that the scheduler wrote, and the opaque parameters that it
copied from the class and from the claim; and what drivers have reported of the devices. Everything else in the
object is left unread, so that a claim with fields of a newer Kubernetes is no error.
Source: k8s.io/api/resource/v1/types.go (1.37).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dra_driver.errors import ObjectRejected
from dra_driver.kube.connection import APPLY_PATCH, Connection, JsonObject
from dra_driver.kube.quantities import whole

_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,62}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_REQUEST = re.compile(rf"{_LABEL.pattern}(/{_LABEL.pattern})?")

_PATH = "/apis/resource.k8s.io/v1"
# The name of the claim within the pod, on claims that were made from a template (k8s.io/api/resource/v1).
POD_CLAIM_NAME = "resource.kubernetes.io/pod-claim-name"
READY = "Ready"
# A page of claims is some hundreds of KiB.
_PAGE = "250"


@dataclass(frozen=True)
class ClaimRef:
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"ResourceClaim {self.namespace}/{self.name}"

    def check(self) -> None:
        """Refuse what cannot be a claim, before it becomes part of a path or of a URL. Raises ObjectRejected."""
        parts = (("namespace", self.namespace, _NAME), ("name", self.name, _NAME), ("uid", self.uid, _UID))
        for part, value, pattern in parts:
            if not pattern.fullmatch(value):
                raise ObjectRejected("claim in the kubelet's request", part, f"{value[:64]!r} cannot be one")


class ConfigSource(StrEnum):
    """Whose parameters they are; the class's come first and the claim's win."""

    CLASS = "FromClass"
    CLAIM = "FromClaim"


@dataclass(frozen=True)
class Result:
    """One device, or one share of it, that the scheduler allocated.

    `consumed` maps capacity names to whole numbers in base units; None where the device is taken whole.
    """

    path: str
    request: str
    driver: str
    pool: str
    device: str
    share_id: str | None = None
    consumed: Mapping[str, int] | None = None


@dataclass(frozen=True)
class OpaqueParameters:
    """Opaque parameters for one driver. Empty `requests` means all."""

    path: str
    source: ConfigSource
    driver: str
    requests: tuple[str, ...]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Reported:
    """What a driver has written in `status.devices` of one device, as far as its condition Ready goes.

    `ready` is None where the condition is missing; `since` is its time of transition as the API writes it.
    """

    driver: str
    pool: str
    device: str
    share_id: str | None = None
    ready: bool | None = None
    since: str = ""
    reason: str = ""
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A claim with its allocation; `results` is None while there is none.

    `pod_claim_name` is the name that pods use for it where it was made from a template, otherwise empty.
    `allocated_at` is the time of the allocation as the API server writes it, empty where it does not.
    """

    ref: ClaimRef
    results: tuple[Result, ...] | None
    parameters: tuple[OpaqueParameters, ...] = ()
    pod_claim_name: str = ""
    reported: tuple[Reported, ...] = ()
    allocated_at: str = ""


class Claims(Protocol):
    """Where claims come from."""

    def at_hand(self, ref: ClaimRef, /) -> Claim | None:
        """Return a claim that can be relied on without asking anybody; None where somebody must be asked."""
        ...

    async def get(self, ref: ClaimRef) -> Claim:
        """Read one claim by namespace and name. Raises KubeError, ObjectRejected."""
        ...


class ApiClaims:
    """Claims from the API server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def at_hand(self, _ref: ClaimRef, /) -> Claim | None:
        """See Claims: nothing is kept here."""
        return None

    async def get(self, ref: ClaimRef) -> Claim:
        """See Claims."""
        return parse_claim(await self._connection.request("GET", _path_of(ref)))

    async def pages(self) -> AsyncIterator[tuple[list[JsonObject], str]]:
        """Yield all claims of the cluster, some at a time, and the resource version to watch from. Raises KubeError."""
        query = {"limit": _PAGE}
        while True:
            answer = await self._connection.request("GET", f"{_PATH}/resourceclaims", query=query)
            metadata = answer.get("metadata") or {}
            yield list(answer.get("items") or []), str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            query = {"limit": _PAGE, "continue": str(metadata["continue"])}

    def watch(self, resource_version: str) -> AsyncIterator[JsonObject]:
        """Yield events `{"type", "object"}` after that version, bookmarks too, until it ends. Raises KubeError."""
        query = {"resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        return self._connection.watch(f"{_PATH}/resourceclaims", query=query)

    async def apply_device_status(self, ref: ClaimRef, manager: str, devices: Sequence[JsonObject]) -> None:
        """Make `devices` all that `manager` says in `status.devices` of this very claim. Raises KubeError."""
        body: JsonObject = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"namespace": ref.namespace, "name": ref.name, "uid": ref.uid},
            "status": {"devices": list(devices)} if devices else {},
        }
        query = {"fieldManager": manager, "force": "true"}
        await self._connection.request(
            "PATCH", f"{_path_of(ref)}/status", query=query, body=body, content_type=APPLY_PATCH
        )


def _path_of(ref: ClaimRef) -> str:
    return f"{_PATH}/namespaces/{ref.namespace}/resourceclaims/{ref.name}"


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Metadata(_Wire):
    namespace: str
    name: str
    uid: str
    annotations: dict[str, str] | None = None


class _Result(_Wire):
    request: str
    driver: str
    pool: str
    device: str
    share_id: str | None = Field(default=None, alias="shareID")
    consumed: dict[str, str | int] | None = Field(default=None, alias="consumedCapacity")


class _Opaque(_Wire):
    driver: str
    parameters: dict[str, Any]


class _Config(_Wire):
    source: ConfigSource
    requests: tuple[str, ...] = ()
    opaque: _Opaque | None = None


class _Devices(_Wire):
    results: tuple[_Result, ...] = ()
    config: tuple[_Config, ...] = ()


class _Allocation(_Wire):
    devices: _Devices = _Devices()
    allocated_at: str | None = Field(default=None, alias="allocationTimestamp")


class _Condition(_Wire):
    type: str = ""
    status: str = ""
    since: str = Field(default="", alias="lastTransitionTime")
    reason: str = ""
    message: str = ""


class _DeviceStatus(_Wire):
    driver: str
    pool: str
    device: str
    share_id: str | None = Field(default=None, alias="shareID")
    conditions: tuple[_Condition, ...] | None = None
    data: Any = None


class _Status(_Wire):
    allocation: _Allocation | None = None
    devices: tuple[_DeviceStatus, ...] | None = None


class _Claim(_Wire):
    metadata: _Metadata
    status: _Status | None = None


def parse_claim(wire: JsonObject) -> Claim:
    """Turn a ResourceClaim (resource.k8s.io/v1) into a Claim. Raises ObjectRejected with the field's path."""
    try:
        claim = _Claim.model_validate(wire)
    except ValidationError as error:
        first = error.errors()[0]
        raise ObjectRejected(_subject(wire), dotted(first["loc"]), first["msg"]) from error
    ref = ClaimRef(claim.metadata.namespace, claim.metadata.name, claim.metadata.uid)
    pod_claim_name = _pod_claim_name(ref, claim.metadata.annotations or {})
    status = claim.status or _Status()
    reported = tuple(_reported(device) for device in status.devices or ())
    if status.allocation is None:
        return Claim(ref, None, pod_claim_name=pod_claim_name, reported=reported)
    devices = status.allocation.devices
    return Claim(
        ref,
        tuple(_result(ref, index, result) for index, result in enumerate(devices.results)),
        tuple(_opaque(index, config) for index, config in enumerate(devices.config) if config.opaque),
        pod_claim_name,
        reported,
        status.allocation.allocated_at or "",
    )


def dotted(location: tuple[int | str, ...]) -> str:
    """Write a pydantic location as people write field paths: `spec.devices.requests[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _pod_claim_name(ref: ClaimRef, annotations: Mapping[str, str]) -> str:
    """Take the annotation, which whoever may edit the claim may set: it becomes part of a path in the container."""
    name = annotations.get(POD_CLAIM_NAME, "")
    if name and not _LABEL.fullmatch(name):
        raise ObjectRejected(str(ref), f"metadata.annotations[{POD_CLAIM_NAME}]", f"{name[:64]!r} is not a DNS label")
    return name


def _reported(wire: _DeviceStatus) -> Reported:
    ready = next((condition for condition in wire.conditions or () if condition.type == READY), _Condition())
    return Reported(
        driver=wire.driver,
        pool=wire.pool,
        device=wire.device,
        share_id=wire.share_id,
        ready={"True": True, "False": False}.get(ready.status),
        since=ready.since,
        reason=ready.reason,
        message=ready.message,
        data=wire.data if isinstance(wire.data, dict) else {},
    )


def _result(ref: ClaimRef, index: int, wire: _Result) -> Result:
    path = f"status.allocation.devices.results[{index}]"
    if not _REQUEST.fullmatch(wire.request):
        raise ObjectRejected(str(ref), f"{path}.request", f"{wire.request[:64]!r} cannot name a request")
    consumed = None
    if wire.consumed is not None:
        consumed = {name: _whole(ref, path, name, str(value)) for name, value in wire.consumed.items()}
    return Result(path, wire.request, wire.driver, wire.pool, wire.device, wire.share_id, consumed)


def _whole(ref: ClaimRef, path: str, name: str, text: str) -> int:
    try:
        return whole(text)
    except ValueError as error:
        raise ObjectRejected(str(ref), f"{path}.consumedCapacity[{name}]", str(error)) from error


def _opaque(index: int, wire: _Config) -> OpaqueParameters:
    assert wire.opaque is not None
    path = f"status.allocation.devices.config[{index}].opaque.parameters"
    return OpaqueParameters(path, wire.source, wire.opaque.driver, wire.requests, wire.opaque.parameters)


def _subject(wire: JsonObject) -> str:
    metadata = wire.get("metadata")
    if not isinstance(metadata, dict):
        return "ResourceClaim"
    return f"ResourceClaim {metadata.get('namespace', '?')}/{metadata.get('name', '?')}"
