"""The local cluster's programs (kubelet, containerd, …), built by the cluster's own package."""

from __future__ import annotations

import os
import subprocess

from tools.setup.command import CommandLog
from tools.setup.errors import SetupError
from tools.setup.golang import Go
from tools.setup.layout import Layout


class ClusterTools:
    """Asks tests/cluster to build what it needs; where it puts it and when it is stale is its business."""

    name = "cluster-tools"
    title = "Kubernetes, containerd, etcd and Helm from source (minutes the first time)"

    def __init__(self, layout: Layout, go: Go) -> None:
        self._layout = layout
        self._go = go

    def is_done(self) -> bool:
        answer = subprocess.run(
            [self._layout.venv_python, "-m", "tools.cluster_programs", "--check"],
            cwd=self._layout.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return answer.returncode == 0

    def perform(self, log: CommandLog) -> None:
        go = self._go.program()
        if go is None:
            raise SetupError("there is no Go to build the cluster's programs with: run the whole set-up")
        log.run(
            [self._layout.venv_python, "-m", "tools.cluster_programs", "--go", go],
            cwd=self._layout.root,
            env={"PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"},
        )
