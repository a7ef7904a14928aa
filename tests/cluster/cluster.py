"""The cluster as tests see it: the same for a local one and for one that was there before."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import description, health, kubeconfig, launching, toolchain
from tests.cluster.commands import run
from tests.cluster.control import Control, LocalControl, NoControl
from tests.cluster.control_plane import Blueprint
from tests.cluster.errors import ClusterError, NotSupported
from tests.cluster.launching import Options
from tests.cluster.paths import ClusterPaths, cache_folder, local_paths
from tests.cluster.progress import Progress

NODE_VARIABLE = "HAMI_DRA_CLUSTER_NODE"
# Of a node that was there before; $CONTAINERD_ADDRESS, which ctr knows too, names another.
EXISTING_CONTAINERD = "/run/containerd/containerd.sock"
KUBELET_ROOT_VARIABLE = "HAMI_DRA_KUBELET_ROOT"
CDI_FOLDERS_VARIABLE = "HAMI_DRA_CDI_FOLDERS"
"""Two folders that the container runtime reads, by comma: the vendor's and ours."""


@dataclass(frozen=True)
class Cluster:
    """A cluster with one node that is this machine.

    What needs power over its processes (`start`, `stop`, `restart`, `logs`, `import_image`, …) raises
    NotSupported on an existing cluster.
    """

    admin_kubeconfig: Path
    node_name: str
    paths: ClusterPaths
    kubectl_program: str
    control: Control
    files: Path
    """A folder of this cluster for kubeconfigs."""

    @classmethod
    def up(
        cls, folder: Path | None = None, options: Options | None = None, progress: Progress | None = None
    ) -> Cluster:
        """A local cluster that is up, started where needed. Raises ClusterError and cleans up if it fails."""
        plan = launching.bring_up(local_paths(folder), options or Options(), progress or Progress())
        return cls._local(plan)

    @classmethod
    def attach(cls, folder: Path | None = None) -> Cluster:
        """The local cluster of the folder, whatever its state. Raises ClusterError where there is none."""
        paths = local_paths(folder)
        described = description.read(paths)
        if described is None:
            raise ClusterError(f"no cluster in {paths.folder}: python -m tests.cluster up")
        return cls._local(description.blueprint(paths, described))

    @staticmethod
    def is_up(folder: Path | None = None) -> bool:
        """Whether a local cluster runs in the folder and all of it is well."""
        return launching.is_up(local_paths(folder))

    @classmethod
    def existing(cls, kubeconfig_path: Path, environ: Mapping[str, str] = os.environ) -> Cluster:
        """The cluster behind a kubeconfig, with this host (or $HAMI_DRA_CLUSTER_NODE) as its node.

        Raises ClusterError where it has no such node.
        """
        program = shutil.which("kubectl") or str(toolchain.ensure(Progress()) / "kubectl")
        wanted = environ.get(NODE_VARIABLE) or socket.gethostname().lower()
        listed = run((program, f"--kubeconfig={kubeconfig_path}", "get", "nodes", "-o", "name"))
        names = [line.removeprefix("node/") for line in listed.split()]
        if wanted not in names:
            raise ClusterError(
                f"no node {wanted} among {', '.join(names) or 'none'}: run this on a node, or set {NODE_VARIABLE}"
            )
        root = Path(environ.get(KUBELET_ROOT_VARIABLE) or "/var/lib/kubelet")
        static, _, dynamic = (environ.get(CDI_FOLDERS_VARIABLE) or "/etc/cdi,/var/run/cdi").partition(",")
        paths = ClusterPaths(root, Path(static), Path(dynamic))
        files = cache_folder(environ) / "existing"
        containerd = Path(environ.get("CONTAINERD_ADDRESS") or EXISTING_CONTAINERD)
        return cls(kubeconfig_path, wanted, paths, program, NoControl(containerd), files)

    @classmethod
    def _local(cls, plan: Blueprint) -> Cluster:
        paths = plan.paths
        return cls(
            admin_kubeconfig=paths.admin_kubeconfig,
            node_name=plan.node_name,
            paths=paths.for_tests,
            kubectl_program=plan.program("kubectl"),
            control=LocalControl(plan),
            files=paths.folder / "kubeconfigs",
        )

    @property
    def is_local(self) -> bool:
        """Whether this package started it."""
        return isinstance(self.control, LocalControl)

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - the name that subprocess gives it
        kubeconfig: Path | None = None,
        timeout: float = 120.0,
    ) -> str:
        """What kubectl writes, as administrator or by another kubeconfig. Raises CommandFailed."""
        chosen = kubeconfig or self.admin_kubeconfig
        return run((self.kubectl_program, f"--kubeconfig={chosen}", *args), stdin=input, timeout=timeout)

    def get(self, *args: str) -> Any:
        """`kubectl get … -o json`, parsed."""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Creates or changes objects."""
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for a user of that name, with the rights that RBAC gives to it and its groups."""
        return self.control.issue_kubeconfig(user, groups)

    def service_account_kubeconfig(
        self, namespace: str, account: str, pod: str, *, duration: str = "2h", path: Path | None = None
    ) -> Path:
        """A kubeconfig with a token as the pod's own: it carries the pod and its node, and ends with it.

        Raises CommandFailed where the account or the pod is not there, or the pod has another account.
        """
        token = self.kubectl(
            *("create", "token", account, "--namespace", namespace, "--duration", duration),
            *("--bound-object-kind", "Pod", "--bound-object-name", pod),
        ).strip()
        server, authority = self._endpoint()
        target = path or self.files / f"{namespace}-{account}-{pod}"
        user = f"system:serviceaccount:{namespace}:{account}"
        return kubeconfig.with_token(target, server, authority, user, token)

    def _endpoint(self) -> tuple[str, bytes]:
        """The API server's URL and its CA in PEM."""
        view = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        entry = view["clusters"][0]["cluster"]
        if "certificate-authority-data" not in entry:
            raise NotSupported("the kubeconfig names no certificate authority")
        return entry["server"], base64.b64decode(entry["certificate-authority-data"])

    def start(self, component: str) -> None:
        """Starts a stopped component and waits until it is well."""
        self.control.start(component)

    def stop(self, component: str) -> None:
        """Ends a component and returns when its process is gone."""
        self.control.stop(component)

    def restart(self, component: str) -> None:
        """Ends a component, starts it and waits until it is well."""
        self.control.stop(component)
        self.control.start(component)

    def logs(self, component: str) -> str:
        """All that a component has logged."""
        return self.control.log(component).read_text(errors="replace")

    def import_image(self, archive: Path) -> None:
        """Gives an image archive (docker-archive or OCI) to the node."""
        self.control.import_image(archive)

    def down(self, progress: Progress | None = None) -> None:
        """Takes a local cluster away; nothing of it is left behind."""
        self.control.remove(progress or Progress())

    def health(self) -> dict[str, str]:
        """For each component "", or what is wrong with it; a local cluster only."""
        if not isinstance(self.control, LocalControl):
            raise NotSupported("the health of components is not known on an existing cluster")
        plan = self.control.plan
        return {name: probe(plan) for name, probe in health.PROBES.items()}
