"""Whether claims hold devices of the driver: asked before it is taken away.

A pod that holds a share can neither end nor start again without the node plugin, so an uninstallation that goes ahead
of its pods leaves them stuck. The chart asks first, by `hami-dra in-use`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dra_driver.errors import DriverInUse, SettingsRejected
from dra_driver.gathering import (
    FORMATS,
    LEVELS,
    FileContent,
    Gathered,
    is_driver_name,
    refuse_nonsense,
    setting,
)
from dra_driver.gathering import gather as gather_settings
from dra_driver.kube.claims import ApiClaims
from dra_driver.kube.connection import Connection, JsonObject

# More names than this say no more.
_NAMED = 20
# Kubernetes lets go of the claims of a pod some seconds after it has ended.
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class InUseSettings:
    """Settings of `hami-dra in-use`."""

    driver_name: str = setting("DRA driver name", "vgpu.hami.io")
    kubeconfig: str = setting("kubeconfig file; without one the pod's service account is used", "")
    log_level: str = setting("debug, info, warning or error", "info")
    log_format: str = setting("json or text", "json")

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises SettingsRejected."""
        checks = (
            ("driver_name", is_driver_name(self.driver_name), "must be a DNS name of at most 63 characters"),
            ("log_level", self.log_level in LEVELS, "is none of the levels"),
            ("log_format", self.log_format in FORMATS, "must be json or text"),
        )
        refuse_nonsense(self, checks)


def gather(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Gathered[InUseSettings]:
    """Put the settings together from environment and flags. Raises SettingsRejected."""
    return gather_settings(InUseSettings, flags, environment, _no_file)


async def refuse_use(connection: Connection, driver: str, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Return when no claim holds a device of the driver. Raises DriverInUse with their names, KubeError."""
    deadline = asyncio.get_running_loop().time() + patience_seconds
    while held := await _held(connection, driver):
        if asyncio.get_running_loop().time() > deadline:
            more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
            names = ", ".join(held[:_NAMED])
            raise DriverInUse(f"claims hold devices of {driver}, delete their pods first: {names}{more}")
        await asyncio.sleep(_PAUSE_SECONDS)


async def _held(connection: Connection, driver: str) -> list[str]:
    return [_name(wire) async for page, _ in ApiClaims(connection).pages() for wire in page if _holds(wire, driver)]


def _holds(wire: JsonObject, driver: str) -> bool:
    allocation = (wire.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or []
    return any(result.get("driver") == driver for result in results)


def _name(wire: JsonObject) -> str:
    return f"{wire['metadata'].get('namespace', '')}/{wire['metadata'].get('name', '')}"


def _no_file(path: Path) -> FileContent:
    raise SettingsRejected(f"setting config_file: in-use reads none, but {path} is given")
