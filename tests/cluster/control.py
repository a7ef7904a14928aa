"""What needs power over a cluster's processes. A local cluster has it; an existing one has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from tests.cluster import components, identities, launching, processes, removal, toolchain
from tests.cluster.commands import run
from tests.cluster.control_plane import Blueprint
from tests.cluster.errors import NotSupported
from tests.cluster.progress import Progress


class Control(Protocol):
    """Operations that only who started the cluster can do; others raise NotSupported."""

    def start(self, component: str) -> None:
        """Starts a stopped component and waits until it is well."""

    def stop(self, component: str) -> None:
        """Ends a component and returns when its process is gone."""

    def log(self, component: str) -> Path:
        """The file with a component's log."""

    def import_image(self, archive: Path) -> None:
        """Gives an image archive to the node."""

    def issue_kubeconfig(self, user: str, groups: Sequence[str]) -> Path:
        """A kubeconfig for a user of that name."""

    def environment(self) -> Mapping[str, str]:
        """For a process that shall end with the cluster at the latest."""

    def remove(self, progress: Progress) -> None:
        """Takes the cluster away."""


class LocalControl:
    """Control over a cluster of this package."""

    def __init__(self, plan: Blueprint) -> None:
        self.plan = plan

    def start(self, component: str) -> None:
        """Raises ComponentFailed with the end of its log if it does not get well."""
        components.start(self.plan, component)
        components.wait_ready(self.plan, component)

    def stop(self, component: str) -> None:
        """One that does not run is fine."""
        components.stop(self.plan, component)

    def log(self, component: str) -> Path:
        """The same file over all restarts."""
        return self.plan.paths.log(component)

    def import_image(self, archive: Path) -> None:
        """Raises ImageError or CommandFailed."""
        launching.import_image(self.plan, archive)

    def issue_kubeconfig(self, user: str, groups: Sequence[str]) -> Path:
        """By a client certificate of the cluster's authority."""
        return identities.issue_user(self.plan.paths, self.plan.network, user, groups)

    def environment(self) -> Mapping[str, str]:
        """The variable by which removal finds processes."""
        return {processes.MARKER: str(self.plan.paths.folder)}

    def remove(self, progress: Progress) -> None:
        """Nothing of it is left behind."""
        with launching.exclusive(self.plan.paths):
            removal.remove(self.plan.paths, progress)


class NoControl:
    """Of an existing cluster, whose processes are its operator's business."""

    def __init__(self, containerd: Path) -> None:
        self._containerd = containerd

    def start(self, component: str) -> None:
        """Raises NotSupported."""
        self._refuse(f"starting {component}")

    def stop(self, component: str) -> None:
        """Raises NotSupported."""
        self._refuse(f"stopping {component}")

    def log(self, component: str) -> Path:
        """Raises NotSupported."""
        self._refuse(f"reading the log of {component}")

    def import_image(self, archive: Path) -> None:
        """By the node's containerd, for which root's rights do; raises NotSupported where there is none."""
        if not self._containerd.is_socket():
            self._refuse(f"importing {archive.name} without a containerd at {self._containerd}")
        ctr = toolchain.ensure(Progress()) / "ctr"
        run((str(ctr), "-a", str(self._containerd), "-n", "k8s.io", "images", "import", str(archive)))

    def issue_kubeconfig(self, user: str, groups: Sequence[str]) -> Path:
        """Raises NotSupported."""
        self._refuse(f"making a certificate for {user}")

    def environment(self) -> Mapping[str, str]:
        """Nothing: such a process is not found and ended by anybody else."""
        return {}

    def remove(self, progress: Progress) -> None:
        """Raises NotSupported."""
        self._refuse("removing the cluster")

    def _refuse(self, what: str) -> NoReturn:
        raise NotSupported(f"{what} is not supported on an existing cluster (KUBECONFIG)")
