"""The controller as processes of this machine, each with the identity that its pod would have.

A pod that only sleeps stands in for each replica, and the replica beside it works with that pod's token: with the
rights that the manifests give it, and no others.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests.cluster import processes
from tests.cluster.cluster import Cluster
from tests.cluster.components import log_tail
from tests.cluster.errors import CommandFailed, ComponentFailed
from tests.cluster.node import PAUSE_IMAGE
from tests.stack.places import Places
from tests.stack.plugin import NAMESPACE
from tests.stack.stack import Stack

NAME = "hami-dra-controller"
LEASE = "hami-dra-controller"
KNOWS_ALL = '"event": "cluster_known"'
_ADDRESS = re.compile(r'"address": "(?P<address>[^"]+)", "event": "http_serving"')
_GRACE = 30.0


class Replica:
    """Starts, stops and kills one replica."""

    def __init__(self, cluster: Cluster, places: Places, number: int, settings: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._places = places
        self._settings = dict(settings)
        self.name = f"{NAME}-{number}"

    @property
    def running(self) -> processes.ProcessRecord | None:
        """The process, while it lives."""
        record = processes.recorded(self._places.processes).get(self.name)
        return record if record is not None and record.running else None

    @property
    def log(self) -> str:
        """All that it has logged since it was started last."""
        path = self._places.processes.log(self.name)
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def http(self) -> str:
        """The URL of its probes and metrics."""
        match = _ADDRESS.search(self.log)
        assert match is not None, f"{self.name} does not serve"
        return f"http://{match['address']}"

    @property
    def leads(self) -> bool:
        """Whether the Lease names it."""
        return holder(self._cluster).startswith(f"{self.name}_")

    def install(self) -> None:
        """Make the stand-in and the credentials."""
        self._cluster.apply(_stand_in(self.name, self._cluster.node_name))
        self._cluster.service_account_kubeconfig(
            NAMESPACE, NAME, self.name, duration="24h", path=self._places.processes.kubeconfig(self.name)
        )

    def start(self, **settings: str) -> None:
        """Start it, and wait until it knows the cluster. Raises ComponentFailed with the end of its log."""
        if self.running is not None:
            return
        self._places.processes.log(self.name).unlink(missing_ok=True)
        values = {
            "pod_name": self.name,
            "kubeconfig": str(self._places.processes.kubeconfig(self.name)),
            "http_address": "127.0.0.1:0",
            **self._settings,
            **settings,
        }
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
        command = [sys.executable, "-m", "dra_driver", "controller", *flags]
        record = processes.start(self._places.processes, self.name, command, self._cluster.control.environment())
        deadline = time.monotonic() + 60
        while KNOWS_ALL not in self.log:
            if not record.running or time.monotonic() > deadline:
                raise ComponentFailed(self.name, "did not start", log_tail(self._places.processes.log(self.name)))
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

    def uninstall(self) -> None:
        """Stop it, and take its stand-in away."""
        self.stop()
        self._cluster.kubectl(
            *("--namespace", NAMESPACE, "delete", "pod", self.name, "--ignore-not-found", "--wait=true")
        )


def replicas(stack: Stack, number: int, **settings: str) -> list[Replica]:
    """That many replicas of the controller on a stack, installed and not yet started."""
    made = [Replica(stack.cluster, stack.places, index, settings) for index in range(number)]
    for replica in made:
        replica.install()
    return made


def holder(cluster: Cluster) -> str:
    """Who holds the Lease; empty where nobody does."""
    try:
        return str(cluster.get("--namespace", NAMESPACE, "lease", LEASE)["spec"].get("holderIdentity", ""))
    except CommandFailed:
        return ""


def _stand_in(name: str, node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": NAME}},
        "spec": {
            "serviceAccountName": NAME,
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "stand-in", "image": PAUSE_IMAGE, "imagePullPolicy": "IfNotPresent"}],
        },
    }
