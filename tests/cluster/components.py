"""Starts, stops and waits for single components of a cluster that is described."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster import control_plane, health, node, processes
from tests.cluster.control_plane import Blueprint
from tests.cluster.errors import ClusterError, ComponentFailed

COMMAND_LINES: Mapping[str, Callable[[Blueprint], list[str]]] = {
    "etcd": control_plane.etcd,
    "containerd": node.containerd,
    "kube-apiserver": control_plane.apiserver,
    "kube-controller-manager": control_plane.controller_manager,
    "kube-scheduler": control_plane.scheduler,
    "kubelet": node.kubelet,
}
# The API server finishes its open requests before it leaves; a restart before that finds its port taken.
STOP_GRACE = 20.0
READY_TIMEOUT = 90.0


def _known(name: str) -> str:
    if name not in COMMAND_LINES:
        raise ClusterError(f"no component is called {name}: there are {', '.join(COMMAND_LINES)}")
    return name


def start(plan: Blueprint, name: str) -> None:
    """Starts a component that does not run; does not wait for it."""
    running = processes.recorded(plan.paths).get(_known(name))
    if running is not None and running.running:
        raise ClusterError(f"{name} runs already, pid {running.pid}")
    # containerd finds its shim on the PATH.
    path = f"{plan.binaries}:{processes.environment(plan.paths)['PATH']}"
    processes.start(plan.paths, name, COMMAND_LINES[name](plan), {"PATH": path})


def stop(plan: Blueprint, name: str) -> None:
    """Ends a component and returns when its process is gone; one that does not run is fine."""
    record = processes.recorded(plan.paths).get(_known(name))
    if record is not None and record.running:
        processes.stop([record.pid], grace=STOP_GRACE)
    plan.paths.record(name).unlink(missing_ok=True)


def wait_ready(plan: Blueprint, name: str, *, timeout: float = READY_TIMEOUT) -> None:
    """Returns when a component says that it is well; raises ComponentFailed when it dies or takes too long."""
    _wait(plan, name, health.PROBES[_known(name)], timeout)


def wait_node_ready(plan: Blueprint, *, timeout: float = READY_TIMEOUT) -> None:
    """Returns when the node is Ready and pods can be made; raises ComponentFailed as the kubelet's fault."""
    _wait(plan, "kubelet", health.node, timeout)


def _wait(plan: Blueprint, name: str, probe: health.Probe, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while reason := probe(plan):
        record = processes.recorded(plan.paths).get(name)
        if record is None or not record.running:
            raise ComponentFailed(name, "died", log_tail(plan.paths.log(name)))
        if time.monotonic() > deadline:
            raise ComponentFailed(name, f"not ready after {timeout:.0f} s ({reason})", log_tail(plan.paths.log(name)))
        time.sleep(0.1)


def log_tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, or why there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError as absent:
        return str(absent)
