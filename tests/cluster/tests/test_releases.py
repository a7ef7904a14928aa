"""Which Kubernetes a cluster is made of, and what it takes from where."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.cluster import releases, toolchain
from tests.cluster.control_plane import Blueprint
from tests.cluster.errors import ClusterError


@pytest.mark.parametrize("minor", releases.known())
def test_every_release_has_all_programs_of_its_own_version(minor: str) -> None:
    release = releases.release(minor)
    assert toolchain.kubernetes_version(release.module).startswith(f"v{minor}.")
    components = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"}
    assert components <= set(toolchain.programs(release.module))


def test_releases_are_known_from_the_oldest_to_the_newest() -> None:
    assert releases.known()[0] == "1.34"
    assert releases.known()[-1] == releases.newest().minor
    assert releases.newest().module == toolchain.MODULE


def test_an_unknown_release_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ClusterError, match=r"no Kubernetes 1\.29 here: there are 1\.34"):
        releases.release("1.29")


def test_releases_that_do_not_share_by_default_are_made_to() -> None:
    assert releases.release("1.34").feature_gates == {"DRAConsumableCapacity": True}
    assert releases.release("1.36").feature_gates == {}
    assert releases.release("1.34", {}).feature_gates == {}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, None),
        ({"HAMI_DRA_KUBERNETES": "1.34"}, ("1.34", {"DRAConsumableCapacity": True})),
        ({"HAMI_DRA_KUBERNETES": "1.34", "HAMI_DRA_FEATURE_GATES": ""}, ("1.34", {})),
        ({"HAMI_DRA_FEATURE_GATES": "A=true,B=false"}, (releases.newest().minor, {"A": True, "B": False})),
    ],
)
def test_the_environment_says_which_one(environ: dict[str, str], wanted: tuple[str, dict[str, bool]] | None) -> None:
    release = releases.wanted(environ)
    assert (release and (release.minor, release.feature_gates)) == wanted


@pytest.mark.parametrize("text", ["A", "A=", "A=yes", "=true"])
def test_a_gate_that_is_neither_on_nor_off_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="NAME=true or NAME=false"):
        releases.parse_gates([text])


def test_kubernetes_comes_from_the_release_and_the_rest_from_the_common_programs(tmp_path: Path) -> None:
    own, common = tmp_path / "own", tmp_path / "common"
    for folder, names in ((own, ("kubelet",)), (common, ("kubelet", "etcd"))):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    fields = {entry.name: None for entry in dataclasses.fields(Blueprint)}
    plan = Blueprint(**{**fields, "binaries": common, "kubernetes": own})  # type: ignore[arg-type]
    assert plan.program("kubelet") == str(own / "kubelet")
    assert plan.program("etcd") == str(common / "etcd")
