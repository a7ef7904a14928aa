"""A cluster comes, goes and is killed; the machine is afterwards as it was before.

These tests use folders of their own and may run beside the cluster that other tests use.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, ClusterError, Options, Silent, machine, mounts, network, processes
from tests.cluster.cgroups import hierarchies
from tests.cluster.commands import run
from tests.cluster.errors import ComponentFailed, UnsafeFolder
from tests.cluster.node import PAUSE_IMAGE
from tests.cluster.paths import LocalPaths

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Traces:
    """All that a cluster could leave on the machine."""

    processes: list[int]
    mounts: list[Path]
    devices: set[str]
    cgroups: set[Path]
    host_folders: set[Path]
    container_links: set[str]
    parameters: dict[str, str]
    folder_exists: bool


def traces(paths: LocalPaths) -> Traces:
    """What there is now, without the network devices of other local clusters."""
    return Traces(
        processes=[*processes.marked(paths), *_processes_naming(paths)],
        mounts=mounts.below(paths.folder),
        devices={name for name in _devices() if name == network.bridge_name(paths.identity) or "hd" not in name},
        cgroups={one for root in hierarchies() for one in root.root.glob(f"hami-dra-{paths.identity}*")},
        host_folders={folder for folder in machine.HOST_FOLDERS if folder.exists()},
        container_links={one.name for one in machine.CONTAINER_LINKS.glob("*") if _leads_into(one, paths)},
        parameters=machine.observe().parameters,
        folder_exists=paths.folder.exists(),
    )


def _processes_naming(paths: LocalPaths) -> list[int]:
    """Processes that have the folder in their command line, but for this test's own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                named = f"{paths.folder}/".encode() in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if named:
                found.append(int(entry.name))
    return found


def _devices() -> set[str]:
    """Names of network devices; one that hangs on a bridge carries the bridge's name before its own."""
    listed: list[dict[str, Any]] = json.loads(run(("ip", "-json", "link", "show")))
    return {f"{one['master']}/{one['ifname']}" if "master" in one else str(one["ifname"]) for one in listed}


def _leads_into(link: Path, paths: LocalPaths) -> bool:
    return link.is_symlink() and link.readlink().is_relative_to(paths.folder)


@pytest.fixture
def paths() -> Iterator[LocalPaths]:
    """A folder for one cluster, which is taken away whatever the test did."""
    folder = Path(tempfile.mkdtemp(prefix="hdc-"))
    folder.rmdir()
    paths = LocalPaths(folder)
    try:
        yield paths
    finally:
        command("down", paths)


def command(name: str, paths: LocalPaths, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m tests.cluster` as a person does."""
    argv = (sys.executable, "-m", "tests.cluster", "--dir", str(paths.folder), name, *arguments)
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def start_pod(cluster: Cluster) -> None:
    """A running pod, with its shim, mounts, network device and cgroups."""
    container = {"name": "main", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"}
    metadata = {"name": "steady"}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})
    cluster.kubectl("wait", "--for=condition=Ready", "pod/steady", "--timeout=90s")


def test_down_leaves_the_machine_as_up_found_it(paths: LocalPaths) -> None:
    before = traces(paths)
    assert command("up", paths).returncode == 0
    start_pod(Cluster.attach(paths.folder))
    during = traces(paths)
    assert during.processes
    assert during.mounts
    assert during.cgroups
    assert during.container_links
    assert during.devices > before.devices
    assert command("down", paths).returncode == 0
    assert traces(paths) == before


def test_second_up_takes_the_running_cluster_as_it_is(paths: LocalPaths) -> None:
    Cluster.up(paths.folder, progress=Silent())
    records = processes.recorded(paths)
    again = command("up", paths)
    assert again.returncode == 0
    assert "up already" in again.stderr
    assert processes.recorded(paths) == records


def test_up_replaces_a_cluster_of_which_a_part_died(paths: LocalPaths) -> None:
    Cluster.up(paths.folder, progress=Silent())
    broken = processes.recorded(paths)["kube-apiserver"]
    os.kill(broken.pid, signal.SIGKILL)
    processes.stop([broken.pid], grace=0)
    status = command("status", paths)
    assert status.returncode == 1
    assert "died" in status.stdout
    assert set(Cluster.up(paths.folder, progress=Silent()).health().values()) == {""}


@pytest.mark.parametrize("moment", ["addresses, keys", "etcd ready", "containerd ready", "kube-scheduler ready"])
def test_down_finds_everything_after_the_launcher_was_killed(paths: LocalPaths, moment: str) -> None:
    before = traces(paths)
    argv = (sys.executable, "-m", "tests.cluster", "--dir", str(paths.folder), "up")
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stderr is not None
        assert any(moment in line for line in launcher.stderr), "the launcher ended before"
        launcher.kill()
    assert traces(paths) != before
    down = command("down", paths)
    assert down.returncode == 0, down.stderr
    assert traces(paths) == before


def test_processes_without_a_record_are_found_by_their_environment(paths: LocalPaths) -> None:
    before = traces(paths)
    start_pod(Cluster.up(paths.folder, progress=Silent()))
    for record in (paths.folder / "run").iterdir():
        record.unlink()
    assert command("down", paths).returncode == 0
    assert traces(paths) == before


def test_failed_up_shows_the_log_of_the_guilty_component_and_cleans_up(paths: LocalPaths) -> None:
    before = traces(paths)
    options = Options(feature_gates={"NoSuchGate": True})
    with pytest.raises(ComponentFailed, match=r"kube-apiserver died(?s:.*)unrecognized feature gate: NoSuchGate"):
        Cluster.up(paths.folder, options, Silent())
    assert traces(paths) == before


def test_down_without_a_cluster_does_nothing(paths: LocalPaths) -> None:
    before = traces(paths)
    assert command("down", paths).returncode == 0
    assert traces(paths) == before


def test_a_folder_with_other_content_is_neither_filled_nor_deleted(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hdc-") as short:
        precious = Path(short, "precious")
        precious.write_text("mine")
        for name in ("up", "down"):
            refused = command(name, LocalPaths(Path(short)))
            assert refused.returncode == 1
            assert "left alone" in refused.stderr
        with pytest.raises(UnsafeFolder, match="left alone"):
            Cluster.up(Path(short), progress=Silent())
        assert precious.read_text() == "mine"


def test_another_user_than_root_is_told_so(paths: LocalPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root"):
        Cluster.up(paths.folder, progress=Silent())
    assert not paths.folder.exists()


def test_command_line_names_the_missing_cluster(paths: LocalPaths) -> None:
    kubectl = command("kubectl", paths, "get", "nodes")
    assert kubectl.returncode == 1
    assert "no cluster in" in kubectl.stderr
    with pytest.raises(ClusterError, match="no cluster in"):
        Cluster.attach(paths.folder)


def test_env_gives_a_shell_its_kubectl(paths: LocalPaths) -> None:
    Cluster.up(paths.folder, progress=Silent())
    printed = command("env", paths).stdout
    answer = run(("sh", "-c", f"{printed}\nkubectl get nodes -o name"))
    assert answer.startswith("node/")
