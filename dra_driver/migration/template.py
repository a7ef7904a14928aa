"""The claim templates that the migration makes: what can be in one, and its name, which is a hash of its content.

Strict, because the content comes back in an annotation of the pod, which its owner can edit: nothing is created from it
that the migration itself could not have written. Parsing and writing are the same model.
Source: k8s.io/api/resource/v1/types.go (1.37).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from dra_driver.api import vgpuconfig
from dra_driver.errors import ObjectRejected
from dra_driver.kube.claims import dotted

API_VERSION = "resource.k8s.io/v1"
KIND = "ResourceClaimTemplate"
# The API's own limits.
MOST_SUBREQUESTS = 8
_MOST = 32

Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Amount = Annotated[str, Field(pattern=r"^[0-9]{1,18}(Ki|Mi|Gi|Ti|Pi|Ei)?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True)


class Cel(_Part):
    """An expression that a device must meet."""

    expression: Annotated[str, Field(max_length=10 * 1024)]


class Selector(_Part):
    """A condition on devices."""

    cel: Cel


class CapacityAsk(_Part):
    """Amounts asked of one device."""

    requests: dict[Literal["memory", "cores"], Amount]


class Exactly(_Part):
    """One device of a class."""

    device_class_name: str
    selectors: Annotated[tuple[Selector, ...], Field(max_length=_MOST)] = ()
    capacity: CapacityAsk | None = None


class _Named(_Part):
    name: Label


class SubRequest(Exactly, _Named):
    """One of several ways to satisfy a request, in order of preference."""


class Request(_Part):
    """A device, asked for in one way or in several."""

    name: Label
    exactly: Exactly | None = None
    first_available: Annotated[tuple[SubRequest, ...], Field(max_length=MOST_SUBREQUESTS)] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.exactly is None) == (not self.first_available):
            raise ValueError("exactly one of exactly and firstAvailable")
        return self


class Constraint(_Part):
    """What holds for the devices of several requests together."""

    requests: Annotated[tuple[Label, ...], Field(max_length=_MOST)]
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class Opaque(_Part):
    """Parameters for the driver: a VgpuConfig as written."""

    driver: str
    parameters: dict[str, Any]


class Config(_Part):
    """Parameters for some requests."""

    requests: Annotated[tuple[Label, ...], Field(max_length=_MOST)]
    opaque: Opaque


class Devices(_Part):
    """All that a claim asks for."""

    requests: Annotated[tuple[Request, ...], Field(min_length=1, max_length=_MOST)]
    constraints: Annotated[tuple[Constraint, ...], Field(max_length=_MOST)] = ()
    config: Annotated[tuple[Config, ...], Field(max_length=_MOST)] = ()


class TemplateSpec(_Part):
    """The spec of the claims that are made from a template."""

    devices: Devices

    def wire(self) -> dict[str, Any]:
        """As the API has it."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @property
    def name(self) -> str:
        """A DNS label that only this content has."""
        canonical = json.dumps(self.wire(), sort_keys=True, separators=(",", ":"))
        return f"vgpu-{hashlib.sha256(canonical.encode()).hexdigest()[:20]}"


def parse_template(wire: Any, *, driver: str, subject: str, path: str) -> TemplateSpec:
    """Read what an annotation holds. Raises ObjectRejected where the migration could not have written it."""
    try:
        # JSON has lists where the model has tuples, which a strict model takes from JSON only.
        spec = TemplateSpec.model_validate_json(json.dumps(wire))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ObjectRejected(subject, f"{path}.{dotted(first['loc'])}", first["msg"]) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ObjectRejected(subject, path, str(error)) from error
    for index, request in enumerate(spec.devices.requests):
        for ask in (request.exactly, *request.first_available):
            if ask is not None and not ask.device_class_name.endswith(f".{driver}"):
                where = f"{path}.devices.requests[{index}]"
                raise ObjectRejected(subject, where, f"{ask.device_class_name!r} is not a class of {driver}")
    for index, config in enumerate(spec.devices.config):
        where = f"{path}.devices.config[{index}].opaque"
        if config.opaque.driver != driver:
            raise ObjectRejected(subject, f"{where}.driver", f"must be {driver}, not {config.opaque.driver!r}")
        vgpuconfig.decode(config.opaque.parameters, vgpuconfig.Source(subject, f"{where}.parameters"))
    return spec


def template_object(name: str, spec: TemplateSpec, *, namespace: str = "", labels: dict[str, str] | None = None) -> Any:
    """The template as an object of the API."""
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {"spec": spec.wire()}}
