"""What can be set when the controller starts. How it comes together: dra_driver/gathering.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dra_driver.addresses import is_address
from dra_driver.configuration import read_controller_configuration
from dra_driver.controller.admission.features import Feature
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

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
FAILURE_POLICIES = ("Fail", "Ignore")
RESTRICTABLE = tuple(feature.value for feature in Feature)


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """Settings of `hami-dra controller`."""

    pod_name: str = setting("name of the controller's pod: who it is among the replicas")
    namespace: str = setting("namespace of the controller's pod: its Lease and its Secret are there", "hami-dra")
    driver_name: str = setting("DRA driver name", "vgpu.hami.io")
    kubeconfig: str = setting("kubeconfig file; without one the pod's service account is used", "")
    lease_seconds: float = setting("after how long without a sign of the active replica another takes over", 15.0)
    garbage_grace_seconds: float = setting("how long something must have been of no use before it is removed", 300.0)
    admission_address: str = setting("host:port that the API server calls for admission; without it there is none", "")
    admission_failure_policy: str = setting(
        "what becomes of objects while no replica answers: Fail refuses them, Ignore lets them in unchecked", "Ignore"
    )
    certificate_folder: str = setting(
        "folder with tls.crt, tls.key and ca.crt; without one the controller makes and rotates its own", ""
    )
    certificate_seconds: float = setting("for how long a certificate that the controller makes is good", 7776000.0)
    admission_names: tuple[str, ...] = setting(
        "host names and addresses, by comma, that the API server may call beside the Service's", ()
    )
    restricted: tuple[str, ...] = setting(
        "what claims may have only where a label of the namespace allows it, by comma", RESTRICTABLE
    )
    webhook_service: str = setting("name of the Service that leads to the admission server", "hami-dra-controller")
    migration: bool = setting("whether pods written for HAMi's resources are given claims", True)
    migration_device_config: str = setting(
        "HAMi's device-config.yaml, where resources have other names there than HAMi gives them", ""
    )
    config_file: str = setting("file with settings", "")
    http_address: str = setting("host:port for /healthz, /readyz and /metrics, as :8080; without it there are none", "")
    log_level: str = setting("debug, info, warning or error", "info")
    log_format: str = setting("json or text", "json")

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises SettingsRejected."""
        addresses = ("admission_address", "http_address")
        checks = (
            ("pod_name", bool(self.pod_name), "must not be empty"),
            ("namespace", _NAME.fullmatch(self.namespace) is not None, "cannot be a namespace"),
            ("driver_name", is_driver_name(self.driver_name), "must be a DNS name of at most 63 characters"),
            # The Lease holds whole seconds; below three there is no time for a second attempt.
            ("lease_seconds", self.lease_seconds >= 3 and self.lease_seconds % 1 == 0, "must be whole, at least 3"),
            ("garbage_grace_seconds", self.garbage_grace_seconds >= 0, "must not be negative"),
            *((name, is_address(getattr(self, name)), "must be host:port, [host]:port or :port") for name in addresses),
            ("admission_failure_policy", self.admission_failure_policy in FAILURE_POLICIES, "is none of the policies"),
            ("certificate_seconds", self.certificate_seconds >= 10, "must be at least 10"),
            ("restricted", set(self.restricted) <= set(RESTRICTABLE), f"must be of {', '.join(RESTRICTABLE)}"),
            ("webhook_service", _NAME.fullmatch(self.webhook_service) is not None, "cannot be a Service"),
            ("log_level", self.log_level in LEVELS, "is none of the levels"),
            ("log_format", self.log_format in FORMATS, "must be json or text"),
        )
        refuse_nonsense(self, checks)


def gather(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Gathered[ControllerSettings]:
    """Put settings together, stage by stage. Raises SettingsRejected with the setting's name."""
    return gather_settings(ControllerSettings, flags, environment, _read_file)


def _read_file(path: Path) -> FileContent:
    return FileContent(read_controller_configuration(path).settings)
