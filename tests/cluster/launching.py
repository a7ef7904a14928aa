"""Brings a cluster up in the order in which its parts need each other, or takes back what it began."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import (
    cgroups,
    components,
    debian,
    description,
    health,
    identities,
    machine,
    network,
    node,
    processes,
    releases,
    removal,
    toolchain,
)
from tests.cluster.commands import run
from tests.cluster.control_plane import Blueprint
from tests.cluster.description import Description
from tests.cluster.errors import ClusterError, ImageError
from tests.cluster.images import pause
from tests.cluster.paths import LocalPaths
from tests.cluster.progress import Progress, Silent
from tests.cluster.releases import Release


@dataclass(frozen=True)
class Options:
    """What one may choose about a cluster."""

    go: str | None = None
    """The Go command; by default the one on the PATH or from PyPI."""
    images: Sequence[Path] = ()
    """Image archives to import besides the pause image."""
    node_name: str = field(default_factory=lambda: socket.gethostname().lower())
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    """Beyond those of the release."""
    runtimes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Container runtimes beside runc, for RuntimeClasses: command lines, by their handlers' names."""
    release: Release | None = field(default_factory=lambda: releases.wanted(os.environ))
    """By default the environment's; where that asks for none, the newest, or whatever runs in the folder already."""


@dataclass(frozen=True)
class Programs:
    """Folders of what was built."""

    common: Path
    kubernetes: Path


def bring_up(paths: LocalPaths, options: Options, progress: Progress) -> Blueprint:
    """A running cluster with its node Ready; one that runs already is taken as it is.

    Raises a ClusterError, and leaves nothing behind, when it cannot be had.
    """
    machine.require_root()
    debian.check()
    programs = _build(options, progress)
    images = [pause.archive(), *options.images]
    with exclusive(paths):
        removal.refuse_foreign_folder(paths)
        running = _running(paths)
        if running is not None:
            if options.release is not None and running.kubernetes != programs.kubernetes:
                raise ClusterError(f"the cluster in {paths.folder} is up and not {options.release.minor}: take it down")
            progress.say(f"the cluster in {paths.folder} is up already")
            return running
        machine.refuse_a_real_node()
        # What a killed launcher or a reboot may have left.
        removal.remove(paths, Silent())
        try:
            return _launch(paths, options, programs, images, progress)
        except BaseException as reason:
            progress.say(f"failed ({type(reason).__name__}): cleaning up")
            removal.remove(paths, progress)
            raise


def bring_up_api(paths: LocalPaths, options: Options, progress: Progress) -> Blueprint:
    """Only etcd and the API server, in a folder where nothing runs: for objects on which nothing acts.

    Raises a ClusterError, and leaves nothing behind, when they cannot be had.
    """
    machine.require_root()
    debian.check()
    programs = _build(options, progress)
    with exclusive(paths):
        removal.remove(paths, Silent())
        try:
            plan = _prepare(paths, options, programs)
            for name in ("etcd", "kube-apiserver"):
                components.start(plan, name)
                components.wait_ready(plan, name)
                progress.say(f"{name} ready")
            return plan
        except BaseException:
            removal.remove(paths, progress)
            raise


@contextmanager
def exclusive(paths: LocalPaths, timeout: float = 300.0) -> Iterator[None]:
    """One launcher at a time per folder.

    A socket's abstract name is the lock: it leaves no file, and a killed holder loses it at once.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX) as lock:
        while True:
            try:
                lock.bind(f"\0hami-dra-cluster-{paths.identity}")
                break
            except OSError as taken:
                if time.monotonic() > deadline:
                    raise ClusterError(f"another process is busy with {paths.folder}") from taken
                time.sleep(0.2)
        yield


def is_up(paths: LocalPaths) -> bool:
    """Whether a cluster runs in the folder and all of it is well."""
    return _running(paths) is not None


def _running(paths: LocalPaths) -> Blueprint | None:
    """The cluster that runs in the folder with all its components well, if there is one."""
    described = description.read(paths)
    if described is None or described.network is None:
        return None
    plan = description.blueprint(paths, described)
    records = processes.recorded(paths)
    alive = all(name in records and records[name].running for name in components.COMMAND_LINES)
    return plan if alive and not health.node(plan) else None


def _launch(
    paths: LocalPaths, options: Options, programs: Programs, images: Sequence[Path], progress: Progress
) -> Blueprint:
    plan = _prepare(paths, options, programs)
    progress.say(f"addresses, keys and configuration are in {paths.folder}")
    components.start(plan, "etcd")
    components.start(plan, "containerd")
    components.wait_ready(plan, "etcd")
    progress.say("etcd ready")
    components.start(plan, "kube-apiserver")
    components.wait_ready(plan, "containerd")
    for image in images:
        import_image(plan, image)
    progress.say("containerd ready, images imported")
    components.wait_ready(plan, "kube-apiserver")
    progress.say(f"kube-apiserver ready at {plan.network.api_server}")
    for name in ("kubelet", "kube-controller-manager", "kube-scheduler"):
        components.start(plan, name)
    kubectl(plan, "apply", "-f", "-", stdin=identities.KUBELET_CLIENT_RIGHTS)
    for name in ("kube-controller-manager", "kube-scheduler", "kubelet"):
        components.wait_ready(plan, name)
        progress.say(f"{name} ready")
    components.wait_node_ready(plan)
    progress.say(f"node {plan.node_name} Ready")
    return plan


def _build(options: Options, progress: Progress) -> Programs:
    common = toolchain.ensure(progress, go=options.go)
    release = options.release or releases.newest()
    return Programs(common, toolchain.ensure(progress, go=options.go, module=release.module))


def _prepare(paths: LocalPaths, options: Options, programs: Programs) -> Blueprint:
    """Everything that is there before the first process: it is written down before it is made."""
    paths.folder.mkdir(parents=True, exist_ok=True)
    described = Description(
        node_name=options.node_name,
        binaries=str(programs.common),
        cgroup=cgroups.name_of(paths.identity),
        machine=_machine_before(),
        feature_gates={**(options.release.feature_gates if options.release else {}), **options.feature_gates},
        kubernetes=str(programs.kubernetes),
        runtimes={name: list(command) for name, command in options.runtimes.items()},
    )
    description.write(paths, described)
    paths.make_folders()
    cgroups.create(described.cgroup)
    described = described.with_network(network.create(paths.identity))
    description.write(paths, described)
    assert described.network is not None
    identities.create(paths, described.network, described.node_name)
    plan = description.blueprint(paths, described)
    node.write_cni_config(plan)
    node.write_containerd_config(plan)
    node.write_kubelet_config(plan)
    return plan


def _machine_before() -> machine.MachineState:
    """The machine without any cluster: as the cluster that came up first found it."""
    for other in machine.local_clusters():
        described = description.read(LocalPaths(other))
        if described is not None:
            return described.machine
    return machine.observe()


def import_image(plan: Blueprint, archive: Path) -> None:
    """Gives an image archive to containerd, where the kubelet finds it."""
    if not archive.exists():
        raise ImageError(f"{archive}: no such image archive")
    socket_path = str(plan.paths.containerd_socket)
    run((plan.program("ctr"), "-a", socket_path, "-n", "k8s.io", "images", "import", str(archive)), timeout=300)


def kubectl(plan: Blueprint, *args: str, stdin: str | None = None) -> str:
    """kubectl as administrator."""
    return run((plan.program("kubectl"), f"--kubeconfig={plan.paths.admin_kubeconfig}", *args), stdin=stdin)
