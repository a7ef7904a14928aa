"""What the chart does before it goes: it asks, and cleans the nodes."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import yaml

from tests.stack.chart import CHART, helm

Document = dict[str, Any]


def render(*sets: str) -> dict[tuple[str, str], Document]:
    """The chart's objects and hooks with some values."""
    arguments = [argument for one in sets for argument in ("--set", one)]
    text = helm("template", "hami-dra", str(CHART), "--namespace", "elsewhere", *arguments)
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def hooks(document: Document) -> set[str]:
    return set(document["metadata"]["annotations"]["helm.sh/hook"].split(","))


def test_an_uninstallation_asks_first_and_an_ordinary_upgrade_does_not() -> None:
    assert hooks(render()["Job", "hami-dra-in-use"]) == {"pre-delete"}
    assert hooks(render("cleanup=true")["Job", "hami-dra-in-use"]) == {"pre-delete", "pre-upgrade"}


def test_cleaning_takes_the_node_plugin_s_place() -> None:
    before, after = render(), render("cleanup=true")
    assert {("DaemonSet", "hami-dra-kubeletplugin")} == before.keys() - after.keys()
    assert {("DaemonSet", "hami-dra-cleanup")} == after.keys() - before.keys()


def test_cleaning_goes_to_the_nodes_where_the_plugin_was() -> None:
    plugin = render()["DaemonSet", "hami-dra-kubeletplugin"]["spec"]["template"]["spec"]
    cleanup = render("cleanup=true")["DaemonSet", "hami-dra-cleanup"]["spec"]["template"]["spec"]
    for field in ("affinity", "tolerations"):
        assert cleanup[field] == plugin[field]


def cleanup_pod(*sets: str) -> Document:
    spec: Document = render("cleanup=true", *sets)["DaemonSet", "hami-dra-cleanup"]["spec"]["template"]["spec"]
    return spec


def mounted(pod: Document, container: Document) -> dict[str, str]:
    """Where a container sees which folder of the host."""
    on_host = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"]}
    return {one["mountPath"]: on_host[one["name"]] for one in container["volumeMounts"]}


FOLDERS = ("kubeletRoot=/srv/kubelet", "stateFolder=/srv/state/hami", "cdiFolder=/srv/cdi")


def test_cleaning_empties_the_folders_of_the_values_and_sees_no_other() -> None:
    pod = cleanup_pod(*(f"kubeletplugin.{one}" for one in FOLDERS))
    cleanup, _ = pod["initContainers"]
    assert {"--kubelet-root=/srv/kubelet", "--state-folder=/srv/state/hami", "--cdi-folder=/srv/cdi"} <= {
        *cleanup["args"]
    }
    own = ("/srv/kubelet/plugins/vgpu.hami.io", "/srv/kubelet/plugins_registry", "/srv/state/hami", "/srv/cdi")
    assert mounted(pod, cleanup) == {folder: folder for folder in own}


def test_what_sees_the_folders_above_removes_only_the_driver_s_own_ones() -> None:
    pod = cleanup_pod(*(f"kubeletplugin.{one}" for one in FOLDERS))
    _, folders = pod["initContainers"]
    removed = [argument for argument in folders["command"] if argument.startswith("/above")]
    on_host = {
        str(PurePosixPath(above) / PurePosixPath(path).name)
        for path in removed
        for inside, above in mounted(pod, folders).items()
        if inside == str(PurePosixPath(path).parent)
    }
    assert on_host == {"/srv/kubelet/plugins/vgpu.hami.io", "/srv/state/hami"}


def test_what_stays_until_the_release_goes_has_no_folder_and_is_not_root() -> None:
    (done,) = cleanup_pod()["containers"]
    assert "volumeMounts" not in done
    assert done["securityContext"]["runAsNonRoot"] is True


def test_cleaning_has_no_token_and_no_more_rights_than_root_s_own_files_need() -> None:
    pod = cleanup_pod()
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
