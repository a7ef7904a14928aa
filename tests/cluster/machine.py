"""What the kubelet and containerd change on the machine outside the folder, and how it is put back.

A few places are compiled into them (/var/lib/kubelet/device-plugins, /var/log/containers, CNI's results),
and the kubelet sets kernel parameters. What was there before is written down at the start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import processes
from tests.cluster.errors import ClusterError
from tests.cluster.paths import LocalPaths

# Set by the kubelet at its start (protectKernelDefaults is off).
KERNEL_PARAMETERS = (
    *("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"),
    *("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)
CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LINKS = Path("/var/log/containers")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
# Children before their parents.
HOST_FOLDERS = (CNI_RESULTS, CNI_RESULTS.parent, CONTAINER_LINKS, DEVICE_PLUGINS, DEVICE_PLUGINS.parent)


@dataclass(frozen=True)
class MachineState:
    """Kernel parameters by path below /proc/sys, and those of the folders that were not there."""

    parameters: dict[str, str]
    absent_folders: tuple[str, ...]


def observe() -> MachineState:
    """The state to come back to."""
    parameters = {}
    for name in KERNEL_PARAMETERS:
        with contextlib.suppress(OSError):
            parameters[name] = Path("/proc/sys", name).read_text().strip()
    return MachineState(parameters, tuple(str(one) for one in HOST_FOLDERS if not one.exists()))


def restore(before: MachineState, paths: LocalPaths, cni_network: str) -> None:
    """Removes this cluster's traces; shared ones stay while another kubelet runs."""
    for result in CNI_RESULTS.glob(f"{cni_network}-*"):
        result.unlink(missing_ok=True)
    for link in CONTAINER_LINKS.glob("*"):
        if link.is_symlink() and link.readlink().is_relative_to(paths.folder):
            link.unlink(missing_ok=True)
    if kubelets():
        return
    for name, value in before.parameters.items():
        with contextlib.suppress(OSError):
            Path("/proc/sys", name).write_text(value)
    if str(DEVICE_PLUGINS) in before.absent_folders:
        shutil.rmtree(DEVICE_PLUGINS, ignore_errors=True)
    for folder in before.absent_folders:
        # One that is not empty holds something that is not ours.
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def kubelets() -> dict[int, Path | None]:
    """The running kubelets by pid, and the folder of the local cluster that each belongs to, if to any."""
    found: dict[int, Path | None] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "kubelet":
                found[int(entry.name)] = processes.folder_of(int(entry.name))
    return found


def local_clusters() -> list[Path]:
    """The folders of the local clusters that run on this machine."""
    return sorted({folder for folder in kubelets().values() if folder is not None})


def require_root() -> None:
    """Raises ClusterError for anybody but root: mounts, devices and cgroups are root's."""
    if os.geteuid() != 0:
        raise ClusterError("a local cluster needs root: namespaces, mounts, network devices and cgroups")


def refuse_a_real_node() -> None:
    """Raises ClusterError where a kubelet runs that is not ours: two would fight over device-plugins."""
    foreign = [pid for pid, folder in kubelets().items() if folder is None]
    if foreign:
        raise ClusterError(
            f"this machine is a Kubernetes node already (kubelet, pid {foreign[0]}): set KUBECONFIG to use it"
        )
