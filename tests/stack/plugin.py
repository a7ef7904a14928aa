"""The node plugin as a process of this machine, with the identity that a pod of it would have.

A DaemonSet's pod gets a token that is bound to it and so to its node. Here a pod that only sleeps stands in for
it, and the plugin beside it works with that pod's token: the same rights, the same restrictions.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.settings import socket_path
from tests.cluster import processes
from tests.cluster.cluster import Cluster
from tests.cluster.components import log_tail
from tests.cluster.errors import ComponentFailed
from tests.cluster.node import PAUSE_IMAGE
from tests.stack.places import MANIFESTS, SHIM, Places

NAME = "hami-dra-kubeletplugin"
NAMESPACE = "hami-dra"
DRIVER = "vgpu.hami.io"
_GRACE = 60.0
REGISTERED = '"event": "registered_with_kubelet"'


class NodePlugin:
    """Starts, stops and kills the plugin."""

    def __init__(
        self,
        cluster: Cluster,
        places: Places,
        environment: Mapping[str, str],
        *,
        pod_uid: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster = cluster
        self._places = places
        self._environment = environment
        self._pod_uid = pod_uid
        self._always = dict(settings or {})
        self._name = f"{NAME}-{pod_uid}" if pod_uid else NAME

    def beside(self, pod_uid: str) -> NodePlugin:
        """Another plugin of this node, as an update brings it."""
        return NodePlugin(self._cluster, self._places, self._environment, pod_uid=pod_uid, settings=self._always)

    @property
    def checkpoint(self) -> Path:
        """The plugin's record of prepared claims."""
        return self._cluster.paths.kubelet_plugins / DRIVER / "checkpoint.json"

    def prepared(self) -> list[dict[str, Any]]:
        """The claims in that record, with what was changed since it was written."""
        recorded = Checkpoint(self.checkpoint.parent).load_previous()
        return [claim.model_dump(mode="json") for claim in recorded]

    @property
    def dra_socket(self) -> Path:
        """The socket that the kubelet calls."""
        return socket_path(self._cluster.paths.kubelet_plugins / DRIVER, "dra", self._pod_uid, ".sock")

    @property
    def registration_socket(self) -> Path:
        """The socket by which the kubelet finds the plugin."""
        return socket_path(self._cluster.paths.kubelet_registry, DRIVER, self._pod_uid, "-reg.sock")

    @property
    def running(self) -> processes.ProcessRecord | None:
        """The process, while it lives."""
        record = processes.recorded(self._places.processes).get(self._name)
        return record if record is not None and record.running else None

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._places.processes.log(self._name).read_text(errors="replace")

    def install(self) -> None:
        """Apply the driver's manifests, and make the identity."""
        self._cluster.kubectl("apply", "-f", str(MANIFESTS / "namespace.yaml"))
        self._cluster.kubectl("apply", "-f", str(MANIFESTS))
        pod = _stand_in(self._cluster.node_name, PAUSE_IMAGE)
        self._cluster.apply(pod)
        self._cluster.service_account_kubeconfig(
            NAMESPACE, NAME, pod["metadata"]["name"], duration="24h", path=self._places.kubeconfig
        )

    def uninstall(self) -> None:
        """Take the driver's objects away."""
        self._cluster.kubectl("delete", "--ignore-not-found", "-f", str(MANIFESTS))

    def start(self, **settings: str) -> None:
        """Start it and wait until the kubelet has taken it. Raises ComponentFailed with the end of its log."""
        if self.running is not None:
            return
        begin = (
            self._places.processes.log(self._name).stat().st_size
            if self._places.processes.log(self._name).exists()
            else 0
        )
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**self._settings(), **settings}.items()]
        command = [sys.executable, "-m", "dra_driver", "kubeletplugin", *flags]
        record = processes.start(self._places.processes, self._name, command, self._environment)
        deadline = time.monotonic() + 60
        while REGISTERED not in self.log[begin:]:
            if not record.running or time.monotonic() > deadline:
                raise ComponentFailed(self._name, "did not start", log_tail(self._places.processes.log(self._name)))
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as Kubernetes does, and wait until it is gone."""
        if (record := self.running) is not None:
            processes.stop([record.pid], grace=_GRACE)

    def kill(self) -> None:
        """End it as a crash does."""
        if (record := self.running) is not None:
            os.kill(record.pid, signal.SIGKILL)
            processes.stop([record.pid], grace=0)

    def _settings(self) -> dict[str, str]:
        paths = self._cluster.paths
        return {
            "node_name": self._cluster.node_name,
            "kubeconfig": str(self._places.kubeconfig),
            "kubelet_root": str(paths.kubelet_root),
            "state_folder": str(self._places.state),
            "cdi_folder": str(paths.cdi_dynamic),
            "vendor_cdi_folders": str(paths.cdi_static),
            "shim_library": str(SHIM),
            "scan_seconds": "1",
            "pod_uid": self._pod_uid,
            **self._always,
        }


def _stand_in(node: str, image: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{NAME}-{node}", "namespace": NAMESPACE},
        "spec": {
            "serviceAccountName": NAME,
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "stand-in", "image": image, "imagePullPolicy": "IfNotPresent"}],
        },
    }
