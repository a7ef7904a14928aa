"""VgpuConfig, the opaque parameters of a claim or a class: strict, and merged with defined precedence.

A field that we do not know is refused with its path: a typing error that is silently ignored would give a
tenant other limits than he believes to have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from dra_driver.errors import ConfigRejected

API_VERSION = "vgpu.hami.io/v1alpha1"
KIND = "VgpuConfig"


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=False
    )


class MemoryConfig(_Strict):
    """What a share may do when its memory is full."""

    oversubscribe: bool = False


class VgpuConfig(_Strict):
    """One VgpuConfig as written. A field that is absent leaves what an earlier config said."""

    api_version: Literal["vgpu.hami.io/v1alpha1"]
    kind: Literal["VgpuConfig"]
    compute_policy: Literal["fixed", "burst", "shared"] = "fixed"
    priority: Literal["high", "low"] = "low"
    memory: MemoryConfig = Field(default_factory=MemoryConfig)
    log_level: Literal["off", "error", "warning", "info", "debug"] = "off"


@dataclass(frozen=True)
class Source:
    """Where a config stands, for messages."""

    subject: str
    path: str


def decode(parameters: Mapping[str, Any], source: Source) -> VgpuConfig:
    """Read one VgpuConfig. Raises ConfigRejected with the path of the first bad field."""
    try:
        return VgpuConfig.model_validate(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigRejected(source.subject, f"{source.path}.{field}", _problem(first)) from error


def merge(configs: Sequence[VgpuConfig]) -> VgpuConfig:
    """Lay configs over each other, the later one winning field by field."""
    merged: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND}
    for config in configs:
        _lay_over(merged, config.model_dump(by_alias=True, exclude_unset=True))
    return VgpuConfig.model_validate(merged)


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            _lay_over(below[name], value)
        else:
            below[name] = value


def _problem(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown field (known here: {', '.join(_known_beside(error['loc']))})"
    given = error.get("input")
    return f"{error['msg']}, not {given!r}" if isinstance(given, str | int | float | bool) else str(error["msg"])


def _known_beside(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = MemoryConfig if location[:1] == ("memory",) and len(location) > 1 else VgpuConfig
    return sorted(field.alias or name for name, field in model.model_fields.items())
