"""What can be set, from flags and the environment; a flag wins.

Every setting `kubelet_root` is the flag `--kubelet-root` and the variable `HAMI_DRA_KUBELET_ROOT`.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dra_driver.errors import SettingsRejected

_PREFIX = "HAMI_DRA_"


def setting(help_text: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a setting with the words that `--help` shows."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """Settings of `hami-dra kubeletplugin`."""

    node_name: str = setting("name of the node that the plugin runs on")
    driver_name: str = setting("DRA driver name", "vgpu.hami.io")
    kubeconfig: str = setting("kubeconfig file; without one the pod's service account is used", "")
    kubelet_root: Path = setting("the kubelet's root folder, at the same path as on the host", Path("/var/lib/kubelet"))
    state_folder: Path = setting("folder on the host for the library and the shares", Path("/var/lib/hami-dra"))
    cdi_folder: Path = setting("folder that the container runtime reads CDI specs from", Path("/var/run/cdi"))
    vendor_cdi_folders: tuple[Path, ...] = setting(
        "folders with the CDI specs of the vendors' own tools, by comma", (Path("/etc/cdi"), Path("/var/run/cdi"))
    )
    shim_library: Path = setting("libvgpu.so to install on the host", Path("/usr/lib/hami-dra/libvgpu.so"))
    vendors: tuple[str, ...] = setting("vendors whose cards are published, by comma", ("nvidia",))
    shares_per_card: int = setting("how many shares one card takes", 10)
    scan_seconds: float = setting("how often the cards are looked at", 15.0)
    sysfs: Path = setting("where sysfs is mounted", Path("/sys"))
    log_level: str = setting("debug, info, warning or error", "info")
    log_format: str = setting("json or text", "json")

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises SettingsRejected."""
        checks = (
            ("node_name", bool(self.node_name), "must not be empty"),
            ("driver_name", _is_driver_name(self.driver_name), "must be a DNS name of at most 63 characters"),
            ("shares_per_card", 1 <= self.shares_per_card <= 1000, "must be 1 to 1000"),
            ("scan_seconds", self.scan_seconds >= 0.1, "must be at least 0.1"),
            ("log_level", self.log_level in ("debug", "info", "warning", "error"), "is none of the levels"),
            ("log_format", self.log_format in ("json", "text"), "must be json or text"),
            ("vendors", bool(self.vendors), "must name at least one"),
        )
        for name, right, problem in checks:
            if not right:
                raise SettingsRejected(f"setting {name}: {getattr(self, name)!r} {problem}")

    @property
    def plugin_folder(self) -> Path:
        """The driver's folder below the kubelet's: the DRA socket and the checkpoint."""
        return self.kubelet_root / "plugins" / self.driver_name

    @property
    def registration_socket(self) -> Path:
        """Where the kubelet looks for plugins."""
        return self.kubelet_root / "plugins_registry" / f"{self.driver_name}-reg.sock"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each setting."""
    for entry in fields(PluginSettings):
        flag = f"--{entry.name.replace('_', '-')}"
        parser.add_argument(flag, default=None, help=f"{entry.metadata['help']} (default: {_shown(entry.default)})")


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> PluginSettings:
    """Put settings together. Raises SettingsRejected with the setting's name."""
    values: dict[str, Any] = {}
    for entry in fields(PluginSettings):
        text = flags.get(entry.name)
        if text is None:
            text = environment.get(_PREFIX + entry.name.upper())
        if text is not None:
            values[entry.name] = _parse(entry.name, str(entry.type), text)
        elif entry.default is dataclasses.MISSING:
            flag = entry.name.replace("_", "-")
            raise SettingsRejected(f"setting {entry.name}: set --{flag} or {_PREFIX}{entry.name.upper()}")
    return PluginSettings(**values)


def _is_driver_name(text: str) -> bool:
    """Tell whether it can be a driver's name, which becomes part of paths and of CDI kinds."""
    return (
        len(text) <= 63
        and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", text) is not None
    )


def _parse(name: str, kind: str, text: str) -> Any:
    parts: Sequence[str] = [part for part in text.split(",") if part]
    try:
        match kind:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "Path":
                return Path(text)
            case "tuple[Path, ...]":
                return tuple(Path(part) for part in parts)
            case "tuple[str, ...]":
                return tuple(parts)
            case _:
                return text
    except ValueError as error:
        raise SettingsRejected(f"setting {name}: {text!r} is not a number") from error


def _shown(default: Any) -> str:
    if default is dataclasses.MISSING:
        return "none, required"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default) or "none"
