"""The cgroup below which all pods of one cluster run, so that none is missed and none is left behind.

The machine may have cgroup v2, v1 or both mounted; the same folder is made in every hierarchy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import processes
from tests.cluster.errors import ClusterError


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup file system; `unified` means v2."""

    root: Path
    unified: bool
    controllers: tuple[str, ...]


def hierarchies(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Hierarchy]:
    """All cgroup file systems of this machine, in the order of their mounts, each once."""
    found: dict[Path, Hierarchy] = {}
    for line in mountinfo.read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root = Path(left.split(" ")[4])
        if kind in ("cgroup", "cgroup2"):
            found[root] = Hierarchy(root, kind == "cgroup2", tuple(options.split(",")))
    return list(found.values())


def name_of(identity: str) -> str:
    """The cgroup's name, below the root of every hierarchy."""
    return f"hami-dra-{identity}"


def create(name: str) -> None:
    """Makes the cgroup everywhere, with the controllers that the kubelet asks for."""
    mounted = hierarchies()
    if not mounted:
        raise ClusterError("no cgroup file system is mounted: the kubelet cannot run here")
    only_unified = all(one.unified for one in mounted)
    for one in mounted:
        (one.root / name).mkdir(exist_ok=True)
        if one.unified and only_unified:
            _delegate_controllers(one.root)
        elif "cpuset" in one.controllers:
            _inherit_cpuset(one.root, one.root / name)


def _delegate_controllers(root: Path) -> None:
    available = (root / "cgroup.controllers").read_text().split()
    wanted = [one for one in available if one in ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")]
    try:
        (root / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in wanted))
    except OSError as refused:
        raise ClusterError(
            f"{root}/cgroup.subtree_control: {refused.strerror}. In a container, move its processes to a"
            " child of the cgroup root first: a cgroup with processes cannot hand controllers down"
        ) from refused


def _inherit_cpuset(parent: Path, child: Path) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        (child / name).write_text((parent / name).read_text())


def _folders(name: str) -> list[Path]:
    """The cgroup's folders in all hierarchies, children before their parents."""
    return [Path(folder) for one in hierarchies() for folder, _, _ in os.walk(one.root / name, topdown=False)]


def members(name: str) -> set[int]:
    """All processes in the cgroup and below it."""
    found: set[int] = set()
    for folder in _folders(name):
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return found


def remove(name: str, *, timeout: float = 30.0) -> None:
    """Kills what runs in the cgroup and removes it from all hierarchies; absent is fine."""
    deadline = time.monotonic() + timeout
    while folders := _folders(name):
        _thaw(folders)
        processes.stop(members(name), grace=0)
        for folder in folders:
            _remove_folder(folder)
        if time.monotonic() > deadline:
            raise ClusterError(f"cgroup {name}: still busy after {timeout:.0f} s: {members(name)}")


def _thaw(folders: list[Path]) -> None:
    # A frozen process (v1) does not even die of SIGKILL.
    for folder in folders:
        with contextlib.suppress(OSError):
            if (folder / "freezer.state").read_text().strip() != "THAWED":
                (folder / "freezer.state").write_text("THAWED")


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as refused:
        if refused.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTEMPTY):
            raise
        # A killed process leaves its cgroup a moment after it is gone from the process list.
        time.sleep(0.02)
