"""What can be set when the node plugin starts. How it comes together: gathering.py."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dra_driver.addresses import is_address
from dra_driver.configuration import Cards, read_configuration
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

# sizeof(sun_path) on Linux, less the closing NUL.
LONGEST_SOCKET_PATH = 107


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
    grpc_health_address: str = setting("host:port for grpc.health.v1, as :9090; without it only the sockets answer", "")
    log_level: str = setting("debug, info, warning or error", "info")
    log_format: str = setting("json or text", "json")
    cards: Cards = field(default_factory=Cards)
    """What becomes of the cards: from the configuration file alone, and only as it was at start."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises SettingsRejected."""
        checks = (
            ("node_name", bool(self.node_name), "must not be empty"),
            ("driver_name", is_driver_name(self.driver_name), "must be a DNS name of at most 63 characters"),
            ("pod_uid", re.fullmatch(r"[0-9A-Za-z-]{0,63}", self.pod_uid) is not None, "cannot be a UID"),
            ("shares_per_card", 1 <= self.shares_per_card <= 1000, "must be 1 to 1000"),
            ("scan_seconds", self.scan_seconds >= 0.1, "must be at least 0.1"),
            ("unhealthy_effect", self.unhealthy_effect in ("NoSchedule", "NoExecute"), "is none of the effects"),
            ("fault_quiet_seconds", self.fault_quiet_seconds >= 0, "must not be negative"),
            ("http_address", is_address(self.http_address), "must be host:port, [host]:port or :port"),
            (
                "grpc_health_address",
                is_address(self.grpc_health_address),
                "must be host:port, [host]:port or :port",
            ),
            ("log_level", self.log_level in LEVELS, "is none of the levels"),
            ("log_format", self.log_format in FORMATS, "must be json or text"),
            ("vendors", bool(self.vendors), "must name at least one"),
        )
        refuse_nonsense(self, checks)

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


def read_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> PluginSettings:
    """Put settings together. Raises SettingsRejected with the setting's name."""
    return gather(flags, environment).settings


def gather(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Gathered[PluginSettings]:
    """Put settings together, stage by stage. Raises SettingsRejected with the setting's name."""
    return gather_settings(PluginSettings, flags, environment, _read_file)


def _read_file(path: Path) -> FileContent:
    config = read_configuration(path)
    return FileContent(config.settings, {"cards": config.cards})
