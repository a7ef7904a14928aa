"""Where the stack finds what was built, and where it keeps what it makes."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.control import LocalControl
from tests.cluster.paths import LocalPaths

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "deploy/manifests"
EXAMPLES = ROOT / "deploy/examples"
BUILT = ROOT / "build/native" / platform.machine()
SHIM = BUILT / "libvgpu.so"
SIMULATED_LIBRARIES = BUILT / "simgpu"

# An existing cluster has no folder of ours.
_APART = Path("/var/lib/hami-dra-stack")


@dataclass(frozen=True)
class Places:
    """The stack's own folders."""

    processes: LocalPaths
    """Where processes of the stack are recorded and logged."""

    @property
    def cards(self) -> Path:
        """The installation of the simulated cards."""
        return self.processes.folder / "cards"

    @property
    def state(self) -> Path:
        """The driver's state folder."""
        return self.processes.folder / "driver"

    @property
    def kubeconfig(self) -> Path:
        """The credentials of the node plugin."""
        return self.processes.kubeconfig("hami-dra-kubeletplugin")


def places_for(cluster: Cluster) -> Places:
    """The stack's folders: the local cluster's own, so that they go with it, or some apart from the cluster."""
    if isinstance(cluster.control, LocalControl):
        return Places(cluster.control.plan.paths)
    paths = LocalPaths(_APART)
    for name in ("run", "logs", "kubeconfigs"):
        (paths.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    return Places(paths)
