"""Where everything of one cluster lies, so that no other module puts a path together on its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import UnsafeFolder

DEFAULT_FOLDER = Path("/var/lib/hami-dra-cluster")
FOLDER_VARIABLE = "HAMI_DRA_CLUSTER_DIR"
# containerd puts 64 hex digits and a slash behind <folder>/s, and a unix socket's path takes 107 bytes.
LONGEST_FOLDER = 40


@dataclass(frozen=True)
class ClusterPaths:
    """The paths that tests and the driver need, on whatever cluster."""

    kubelet_root: Path
    """What the kubelet calls --root-dir; plugins/ and plugins_registry/ lie in it."""
    cdi_static: Path
    """For the vendor's own CDI specs."""
    cdi_dynamic: Path
    """For the CDI specs that the driver writes."""

    @property
    def kubelet_plugins(self) -> Path:
        """One folder per driver, with its DRA socket."""
        return self.kubelet_root / "plugins"

    @property
    def kubelet_registry(self) -> Path:
        """Where the kubelet looks for registration sockets."""
        return self.kubelet_root / "plugins_registry"


@dataclass(frozen=True)
class LocalPaths:
    """The layout of a local cluster's folder."""

    folder: Path

    @property
    def for_tests(self) -> ClusterPaths:
        """The part that an existing cluster has as well."""
        return ClusterPaths(self.kubelet_root, self.folder / "cdi/static", self.folder / "cdi/dynamic")

    @property
    def identity(self) -> str:
        """Eight hex digits that name the cluster where a path is too long (cgroup, network device)."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]

    @property
    def description(self) -> Path:
        """The file that says that this folder is a cluster's, and what was taken from the machine for it."""
        return self.folder / "cluster.json"

    @property
    def kubelet_root(self) -> Path:
        """The kubelet's --root-dir."""
        return self.folder / "kubelet"

    @property
    def admin_kubeconfig(self) -> Path:
        """Full rights: for people and for the set-up of tests."""
        return self.folder / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """containerd's gRPC socket (CRI and ctr)."""
        return self.folder / "containerd/containerd.sock"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of a component or a test's user."""
        return self.folder / "kubeconfigs" / user.replace("/", "_")

    def log(self, name: str) -> Path:
        """A component's log."""
        return self.folder / "logs" / f"{name}.log"

    def record(self, name: str) -> Path:
        """Which process runs a component."""
        return self.folder / "run" / f"{name}.json"

    def config(self, name: str) -> Path:
        """A configuration file."""
        return self.folder / "config" / name

    def pki(self, name: str) -> Path:
        """A key or certificate."""
        return self.folder / "pki" / name

    def make_folders(self) -> None:
        """Creates what the components expect to be there; keys and records are for root alone."""
        for name in ("pki", "run", "kubeconfigs", "s"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (
            *("logs", "config", "etcd", "runc", "pod-logs", "cni/net.d", "cdi/static", "cdi/dynamic"),
            *("containerd/root", "containerd/state", "containerd/opt", "kubelet/volume-plugins"),
        ):
            (self.folder / name).mkdir(parents=True, exist_ok=True)


def local_paths(folder: Path | None, environ: Mapping[str, str] = os.environ) -> LocalPaths:
    """The layout for a folder, for $HAMI_DRA_CLUSTER_DIR, or for the default.

    Raises UnsafeFolder where unix sockets below it would have paths longer than the kernel takes.
    """
    chosen = folder or Path(environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)
    resolved = chosen.resolve()
    if len(str(resolved).encode()) > LONGEST_FOLDER:
        raise UnsafeFolder(f"{resolved}: longer than {LONGEST_FOLDER} bytes, unix sockets in it could not be made")
    return LocalPaths(resolved)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """What outlives a cluster and a checkout: built programs and images."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hami-dra"
