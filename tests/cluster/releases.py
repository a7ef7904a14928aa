"""Which Kubernetes a local cluster is made of: the newest, or an older one that the driver must work with, too.

An older one is a go.mod of its own with the programs of Kubernetes alone; etcd and containerd are the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import toolchain
from tests.cluster.errors import ClusterError

VERSION_VARIABLE = "HAMI_DRA_KUBERNETES"
GATES_VARIABLE = "HAMI_DRA_FEATURE_GATES"
VERSIONS = Path(__file__).with_name("versions")
# Sharing a device is consumable capacity, which these have but do not switch on.
_SHARING: Mapping[str, bool] = {"DRAConsumableCapacity": True}
_GATES: Mapping[str, Mapping[str, bool]] = {"1.34": _SHARING, "1.35": _SHARING}


@dataclass(frozen=True)
class Release:
    """A minor version of Kubernetes as a local cluster runs it."""

    minor: str
    module: Path
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    """Beyond Kubernetes' defaults, on every component."""


def newest() -> Release:
    """What clusters are made of where nothing else is asked for."""
    return Release(_minor(toolchain.kubernetes_version()), toolchain.MODULE)


def known() -> tuple[str, ...]:
    """The minor versions that there are, from the oldest."""
    return (*sorted((folder.name.removeprefix("v") for folder in VERSIONS.glob("v*")), key=_number), newest().minor)


def release(minor: str, feature_gates: Mapping[str, bool] | None = None) -> Release:
    """A release by its minor version as 1.36; without gates those that sharing needs there. Raises ClusterError."""
    if minor not in known():
        raise ClusterError(f"no Kubernetes {minor} here: there are {', '.join(known())}")
    module = toolchain.MODULE if minor == newest().minor else VERSIONS / f"v{minor}"
    return Release(minor, module, _GATES.get(minor, {}) if feature_gates is None else feature_gates)


def wanted(environ: Mapping[str, str]) -> Release | None:
    """The release that the environment asks for, if it asks for one. Raises ClusterError.

    $HAMI_DRA_FEATURE_GATES, as `A=true,B=false`, replaces the gates of the release; empty, it leaves Kubernetes'
    defaults.
    """
    minor, gates = environ.get(VERSION_VARIABLE), environ.get(GATES_VARIABLE)
    if not minor and gates is None:
        return None
    return release(minor or newest().minor, None if gates is None else parse_gates(gates.split(",")))


def parse_gates(texts: list[str]) -> dict[str, bool]:
    """Gates written as `NAME=true`; empty ones say nothing. Raises ClusterError."""
    gates = {}
    for text in filter(None, texts):
        name, _, value = text.partition("=")
        if not name or value not in ("true", "false"):
            raise ClusterError(f"feature gate {text!r}: NAME=true or NAME=false is wanted")
        gates[name] = value == "true"
    return gates


def _minor(version: str) -> str:
    found = re.match(r"v(\d+\.\d+)", version)
    if found is None:
        raise ClusterError(f"{version!r} is no version of Kubernetes")
    return found.group(1)


def _number(minor: str) -> tuple[int, ...]:
    return tuple(map(int, minor.split(".")))
