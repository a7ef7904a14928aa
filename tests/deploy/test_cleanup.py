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


def test_cleaning_knows_the_folders_and_can_remove_them() -> None:
    folders = {"kubeletRoot": "/srv/kubelet", "stateFolder": "/srv/state/hami", "cdiFolder": "/srv/cdi"}
    sets = [f"kubeletplugin.{name}={path}" for name, path in folders.items()]
    pod = render("cleanup=true", *sets)["DaemonSet", "hami-dra-cleanup"]["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    assert {"--kubelet-root=/srv/kubelet", "--state-folder=/srv/state/hami", "--cdi-folder=/srv/cdi"} <= {*init["args"]}
    on_host = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"]}
    inside = {one["name"]: one["mountPath"] for one in init["volumeMounts"]}
    assert on_host == inside
    above = {str(PurePosixPath(path).parent) for path in ("/srv/kubelet/plugins/vgpu.hami.io", "/srv/state/hami")}
    assert above <= {*on_host.values()}


def test_cleaning_has_no_token_and_no_more_rights_than_root_s_own_files_need() -> None:
    pod = render("cleanup=true")["DaemonSet", "hami-dra-cleanup"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
