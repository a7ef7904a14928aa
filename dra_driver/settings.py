"""What can be set at start: in a configuration file, in the environment, by flags; the later wins.

A setting `kubelet_root` is `kubeletRoot` in the file, the variable `HAMI_DRA_KUBELET_ROOT` and the flag
`--kubelet-root`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from dra_driver.configuration import Cards, NodeConfig, read_configuration
from dra_driver.errors import SettingsRejected

_PREFIX = "HAMI_DRA_"
# sizeof(sun_path) on Linux, less the closing NUL.
LONGEST_SOCKET_PATH = 107


def setting(help_text: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a setting with the words that `--help` shows."""
    return field(default=default, metadata={"help": help_text})


class Source(StrEnum):
    """Where a setting comes from, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


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
    pod_uid: str = setting("UID of the plugin's pod, so that two can run side by side during an update", "")
    shim_library: Path = setting("libvgpu.so to install on the host", Path("/usr/lib/hami-dra/libvgpu.so"))
    vendors: tuple[str, ...] = setting("vendors whose cards are published, by comma", ("nvidia",))
    shares_per_card: int = setting("how many shares one card takes", 10)
    scan_seconds: float = setting("how often the cards are looked at", 15.0)
    sysfs: Path = setting("where sysfs is mounted", Path("/sys"))
    unhealthy_effect: str = setting("what the taint of an unhealthy card does: NoSchedule or NoExecute", "NoSchedule")
    fault_quiet_seconds: float = setting("after how long without another one a fault of a card is over", 600.0)
    harmless_xids: tuple[int, ...] = setting(
        "XID errors that say nothing against an NVIDIA card, by comma; unset: those that programs bring about", ()
    )
    config_file: str = setting("file with settings and with what becomes of each card, read again when it changes", "")
    http_address: str = setting("host:port for /healthz, /readyz and /metrics, as :8080; without it there are none", "")
    log_level: str = setting("debug, info, warning or error", "info")
    log_format: str = setting("json or text", "json")
    cards: Cards = field(default_factory=Cards)
    """What becomes of the cards: from the configuration file alone, and only as it was at start."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises SettingsRejected."""
        checks = (
            ("node_name", bool(self.node_name), "must not be empty"),
            ("driver_name", _is_driver_name(self.driver_name), "must be a DNS name of at most 63 characters"),
            ("pod_uid", re.fullmatch(r"[0-9A-Za-z-]{0,63}", self.pod_uid) is not None, "cannot be a UID"),
            ("shares_per_card", 1 <= self.shares_per_card <= 1000, "must be 1 to 1000"),
            ("scan_seconds", self.scan_seconds >= 0.1, "must be at least 0.1"),
            ("unhealthy_effect", self.unhealthy_effect in ("NoSchedule", "NoExecute"), "is none of the effects"),
            ("fault_quiet_seconds", self.fault_quiet_seconds >= 0, "must not be negative"),
            ("http_address", _is_address(self.http_address), "must be host:port, [host]:port or :port"),
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
    def dra_socket(self) -> Path:
        """Where the kubelet calls."""
        return socket_path(self.plugin_folder, "dra", self.pod_uid, ".sock")

    @property
    def registration_socket(self) -> Path:
        """Where the kubelet looks for plugins."""
        return socket_path(self.kubelet_root / "plugins_registry", self.driver_name, self.pod_uid, "-reg.sock")


def socket_path(folder: Path, start: str, pod_uid: str, end: str) -> Path:
    """Name a socket: with the pod's UID where there is one, and with a hash of it where that would be too long."""
    if not pod_uid:
        return folder / f"{start}{end}"
    path = folder / f"{start}-{pod_uid}{end}"
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        return path
    return folder / f"{start}-{hashlib.sha256(pod_uid.encode()).hexdigest()[:8]}{end}"


@dataclass(frozen=True)
class Gathered:
    """The settings, and where those come from that are not at their default."""

    settings: PluginSettings
    origins: Mapping[str, Source]

    def by_source(self) -> Mapping[Source, Mapping[str, Any]]:
        """Arrange what was set by its source, for the log."""
        return {
            source: {name: _plain(getattr(self.settings, name)) for name, own in self.origins.items() if own is source}
            for source in Source
            if source in self.origins.values()
        }


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each setting."""
    for entry in _settable():
        flag = f"--{entry.name.replace('_', '-')}"
        parser.add_argument(flag, default=None, help=f"{entry.metadata['help']} (default: {_shown(entry.default)})")


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> PluginSettings:
    """Put settings together. Raises SettingsRejected with the setting's name."""
    return gather(flags, environment).settings


def gather(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Gathered:
    """Put settings together, stage by stage. Raises SettingsRejected with the setting's name."""
    given = _given(flags, environment)
    file = given.get("config_file", (Source.DEFAULT, ""))[1]
    config = read_configuration(Path(file)) if file else None
    if config is not None:
        given = {**_from_file(Path(file), config), **given}
    for entry in _settable():
        if entry.name not in given and entry.default is dataclasses.MISSING:
            flag = entry.name.replace("_", "-")
            raise SettingsRejected(f"setting {entry.name}: set --{flag} or {_PREFIX}{entry.name.upper()}")
    kinds = {entry.name: str(entry.type) for entry in _settable()}
    values = {name: _parse(name, kinds[name], text) for name, (_, text) in given.items()}
    settings = PluginSettings(**values, cards=config.cards if config else Cards())
    return Gathered(settings, {name: source for name, (source, _) in given.items()})


def _given(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, tuple[Source, str]]:
    """Collect what the environment and the flags say, as text."""
    given: dict[str, tuple[Source, str]] = {}
    for entry in _settable():
        variable, flag = environment.get(_PREFIX + entry.name.upper()), flags.get(entry.name)
        if variable is not None:
            given[entry.name] = (Source.ENVIRONMENT, variable)
        if flag is not None:
            given[entry.name] = (Source.FLAG, flag)
    return given


def _from_file(path: Path, config: NodeConfig) -> dict[str, tuple[Source, str]]:
    """Take the file's settings, as text: what can be written on a command line can be written there."""
    names = {to_camel(entry.name): entry.name for entry in _settable() if entry.name != "config_file"}
    given: dict[str, tuple[Source, str]] = {}
    for name, value in config.settings.items():
        where = f"configuration {path}: settings.{name}"
        if name not in names:
            raise SettingsRejected(f"{where}: no such setting (there are {', '.join(sorted(names))})")
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
            raise SettingsRejected(f"{where}: {value!r} is neither text nor a number nor a list of them")
        given[names[name]] = (Source.FILE, ",".join(map(str, parts)))
    return given


def _settable() -> list[dataclasses.Field[Any]]:
    return [entry for entry in fields(PluginSettings) if "help" in entry.metadata]


def split_address(text: str) -> tuple[str, int]:
    """Take `host:port` apart; no host means all addresses. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    number = int(port)
    if not colon or not 0 <= number <= 65535:
        raise ValueError(text)
    return host.removeprefix("[").removesuffix("]"), number


def _is_address(text: str) -> bool:
    try:
        split_address(text or ":0")
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    """Make a value fit for a line of the log."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


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
            case "tuple[int, ...]":
                return tuple(int(part) for part in parts)
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
