"""ResourceClaims: what the plugin reads of them, parsed once.

Only the allocation matters on the node: the results that the scheduler wrote, and the opaque parameters that it
copied from the class and from the claim. Everything else in the object is left unread, so that a claim with
fields of a newer Kubernetes is no error.
Source: k8s.io/api/resource/v1/types.go (1.37).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dra_driver.errors import ObjectRejected
from dra_driver.kube.connection import Connection, JsonObject
from dra_driver.kube.quantities import whole

_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,62}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


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
        fields = (("namespace", self.namespace, _NAME), ("name", self.name, _NAME), ("uid", self.uid, _UID))
        for field, value, pattern in fields:
            if not pattern.fullmatch(value):
                raise ObjectRejected("claim in the kubelet's request", field, f"{value[:64]!r} cannot be one")


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
class Claim:
    """A claim with its allocation; `results` is None while there is none."""

    ref: ClaimRef
    results: tuple[Result, ...] | None
    parameters: tuple[OpaqueParameters, ...] = ()


class Claims(Protocol):
    """Where claims come from."""

    async def get(self, ref: ClaimRef) -> Claim:
        """Read one claim by namespace and name. Raises KubeError, ObjectRejected."""
        ...


class ApiClaims:
    """Claims from the API server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, ref: ClaimRef) -> Claim:
        """See Claims."""
        path = f"/apis/resource.k8s.io/v1/namespaces/{ref.namespace}/resourceclaims/{ref.name}"
        return parse_claim(await self._connection.request("GET", path))


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Metadata(_Wire):
    namespace: str
    name: str
    uid: str


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


class _Status(_Wire):
    allocation: _Allocation | None = None


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
    allocation = claim.status.allocation if claim.status else None
    if allocation is None:
        return Claim(ref, None)
    devices = allocation.devices
    return Claim(
        ref,
        tuple(_result(ref, index, result) for index, result in enumerate(devices.results)),
        tuple(_opaque(index, config) for index, config in enumerate(devices.config) if config.opaque),
    )


def dotted(location: tuple[int | str, ...]) -> str:
    """Write a pydantic location as people write field paths: `spec.devices.requests[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _result(ref: ClaimRef, index: int, wire: _Result) -> Result:
    path = f"status.allocation.devices.results[{index}]"
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
