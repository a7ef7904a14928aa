"""Takes a cluster away without a trace, whatever state it is in: up, half up, or its launcher killed.

Nothing here relies on a record alone: processes are found by the variable they carry and by the pods'
cgroup, mounts by the folder, network devices and cgroups by the cluster's identity. Each step can be
repeated, so a removal that was interrupted is simply run again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster import cgroups, description, machine, mounts, network, processes
from tests.cluster.errors import ClusterError, UnsafeFolder
from tests.cluster.paths import LocalPaths
from tests.cluster.progress import Progress


def remove(paths: LocalPaths, progress: Progress, *, keep_folder: bool = False) -> None:
    """Stops and removes everything of the cluster; `keep_folder` leaves logs and state to look at.

    Raises UnsafeFolder, before anything is touched, for a folder that is not a cluster's.
    """
    machine.require_root()
    refuse_foreign_folder(paths)
    before = description.read(paths)
    stop_all(paths)
    progress.say("processes stopped")
    mounts.detach(paths.folder)
    network.remove(network.bridge_name(paths.identity))
    cgroups.remove(cgroups.name_of(paths.identity))
    if before is not None:
        machine.restore(before.machine, paths, network.bridge_name(paths.identity))
    progress.say("mounts, network devices and cgroups removed")
    if keep_folder:
        progress.say(f"logs and state are still in {paths.folder}")
    else:
        _delete_folder(paths.folder)


def refuse_foreign_folder(paths: LocalPaths) -> None:
    """Raises UnsafeFolder unless the folder is absent, empty, or a cluster's."""
    folder = paths.folder
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UnsafeFolder(f"{folder} is not a folder")
    if any(folder.iterdir()) and description.read(paths) is None:
        raise UnsafeFolder(f"{folder} holds something that is not a local cluster: it is left alone")


def stop_all(paths: LocalPaths) -> None:
    """Ends all processes of the cluster: first the kubelet, which would start pods again."""
    record = processes.recorded(paths).get("kubelet")
    if record is not None and record.running:
        processes.stop([record.pid], grace=5.0)
    pods = cgroups.name_of(paths.identity)
    for _ in range(20):
        # A shim that was just started may have been missed by the round before.
        found = set(processes.marked(paths))
        shims = {pid for pid in found if _is_shim(pid)}
        contained = cgroups.members(pods)
        if not found and not contained:
            return
        processes.stop(contained - found, grace=0)
        processes.stop(found - shims, grace=1.5)
        processes.stop(shims, grace=0)
    raise ClusterError(f"processes of the cluster do not end: {sorted(processes.marked(paths))}")


def _is_shim(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("containerd-shim")
    except OSError:
        return False


def _delete_folder(folder: Path) -> None:
    left = mounts.below(folder)
    if left:
        raise ClusterError(f"not deleting {folder}: {left[0]} is still mounted")
    if folder.exists():
        shutil.rmtree(folder)
