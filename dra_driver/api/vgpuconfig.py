"""VgpuConfig, the opaque parameters of a claim or a class: strict, and merged with defined precedence.

A field that we do not know is refused with its path: a typing error that is silently ignored would give a
tenant other limits than he believes to have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from dra_driver.errors import ConfigRejected

API_VERSION = "vgpu.hami.io/v1alpha1"
KIND = "VgpuConfig"

# What people write for memory: Kubernetes quantities without signs, exponents and parts of a byte, below 2^60.
_AMOUNT = re.compile(r"[0-9]{1,18}|[0-9]{1,8}(\.[0-9]{1,3})?(Ki|Mi|Gi|k|M|G)|[0-9]{1,5}(\.[0-9]{1,3})?(Ti|T)")


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=False
    )


def _amount(written: object) -> str:
    """Take an amount of memory as text or as a number, as the API server takes quantities."""
    text = str(written) if isinstance(written, int) and not isinstance(written, bool) else written
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text):
        raise PydanticCustomError("amount", "Input should be an amount of memory, such as 8Gi or 0")
    return text


class Oversubscription(_Strict):
    """What a share may use when its part of the card's memory is full.

    `host_memory` is a quantity in bytes: that much more is served from the host's memory. 0 is none.
    """

    host_memory: Annotated[str, BeforeValidator(_amount)]


class MemoryConfig(_Strict):
    """What a share may do when its memory is full."""

    oversubscribe: Oversubscription = Oversubscription.model_validate({"hostMemory": "0"})


class VgpuConfig(_Strict):
    """One VgpuConfig as written. A field that is absent leaves what an earlier config said."""

    api_version: Literal["vgpu.hami.io/v1alpha1"]
    kind: Literal["VgpuConfig"]
    compute_policy: Literal["fixed", "burst", "shared"] = "fixed"
    priority: Literal["high", "low"] = "low"
    memory: MemoryConfig = Field(default_factory=MemoryConfig)
    log_level: Literal["off", "error", "warning", "info", "debug"] = "off"


# The parts that are objects, by their path.
_PARTS: dict[tuple[str, ...], type[BaseModel]] = {
    (): VgpuConfig,
    ("memory",): MemoryConfig,
    ("memory", "oversubscribe"): Oversubscription,
}


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
    location = tuple(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown field (known here: {_known_in(location[:-1])})"
    given = error.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) else ""
    if location in _PARTS:
        return f"Input should be an object (with: {_known_in(location)}){shown}"
    return f"{error['msg']}{shown}"


def _known_in(location: tuple[str, ...]) -> str:
    fields = _PARTS[location].model_fields.items()
    return ", ".join(sorted(field.alias or name for name, field in fields))
