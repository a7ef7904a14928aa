"""Checks that a pod has the form of one, as far as the mapping looks into it.

The API server sends nothing else, but a manifest can hold anything, and a wrong word in it deserves a sentence with its
place. The pod itself stays as it is: what the mapping does not know must come out as it went in.
Source: k8s.io/api/core/v1/types.go (1.37).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from dra_driver.errors import ObjectRejected
from dra_driver.kube.claims import dotted

Text = str | int | float | bool | None
Amounts = dict[str, str | int | float] | None


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)


class _Variable(_Shape):
    name: Text = None
    value: Text = None


class _Use(_Shape):
    name: str


class _Resources(_Shape):
    limits: Amounts = None
    requests: Amounts = None
    claims: list[_Use] | None = None


class _Container(_Shape):
    name: Annotated[str, Field(min_length=1)]
    restart_policy: str | None = None
    resources: _Resources | None = None
    env: list[_Variable] | None = None
    security_context: dict[str, Any] | None = None


class _Claim(_Shape):
    name: str


class _Spec(_Shape):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    resource_claims: list[_Claim] | None = None
    scheduler_name: str | None = None
    node_name: str | None = None


class _Metadata(_Shape):
    labels: dict[str, Text] | None = None
    annotations: dict[str, Text] | None = None


class _Pod(_Shape):
    metadata: _Metadata | None = None
    spec: _Spec | None = None


def check_shape(pod: Mapping[str, Any], *, subject: str, path: str) -> None:
    """Refuse what is no pod, with the field. Raises ObjectRejected."""
    try:
        _Pod.model_validate(pod)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = dotted(first["loc"])
        raise ObjectRejected(subject, f"{path}.{place}" if path else place, first["msg"]) from error
