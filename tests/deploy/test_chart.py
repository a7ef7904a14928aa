"""The chart takes the values that it says it takes, and renders what they mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.errors import CommandFailed
from tests.stack.chart import CHART, helm
from tools import render_manifests

Document = dict[str, Any]


def render(tmp_path: Path, version: str = "1.37.0", **values: Any) -> dict[tuple[str, str], Document]:
    """The objects that the chart makes of some values, by kind and name."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    text = helm(
        *("template", "hami-dra", str(CHART), "--namespace", "elsewhere", "--kube-version", version),
        *("--values", str(file)),
    )
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def container(document: Document) -> Document:
    (only,) = document["spec"]["template"]["spec"]["containers"]
    found: Document = only
    return found


def configuration(found: dict[tuple[str, str], Document], component: str) -> Document:
    read: Document = yaml.safe_load(found["ConfigMap", f"hami-dra-{component}"]["data"]["config.yaml"])
    return read


def test_chart_is_sound() -> None:
    assert "0 chart(s) failed" in helm("lint", str(CHART), "--strict")


def test_manifests_without_helm_are_those_of_the_chart() -> None:
    assert render_manifests.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"kubeletplugin": {"settings": {"scanSecond": 3}}}, "/kubeletplugin/settings"),
        ({"kubeletplugin": {"settings": {"scanSeconds": "often"}}}, "/kubeletplugin/settings/scanSeconds"),
        ({"kubeletplugin": {"cards": {"mode": "both"}}}, "/kubeletplugin/cards/mode"),
        ({"kubeletplugin": {"nvidia": {"access": "magic"}}}, "/kubeletplugin/nvidia/access"),
        ({"controller": {"replicas": 0}}, "/controller/replicas"),
        ({"controler": {}}, "controler"),
        ({"image": {"registry": "registry.example"}}, "/image/registry"),
        ({"restricted": ["everything"]}, "/restricted/0"),
    ],
)
def test_wrong_value_is_refused_with_its_path(tmp_path: Path, values: Document, place: str) -> None:
    with pytest.raises(CommandFailed, match=place):
        render(tmp_path, **values)


def test_values_of_its_own_are_what_the_schema_takes() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(defaults) == set(schema["properties"]) - {"global"}
    for part in ("kubeletplugin", "controller"):
        assert set(defaults[part]) == set(schema["properties"][part]["properties"])


def test_settings_and_cards_reach_the_configuration_file(tmp_path: Path) -> None:
    cards = {"mode": "slots", "slots": {"memory": "3Gi"}}
    found = render(tmp_path, kubeletplugin={"settings": {"logLevel": "debug"}, "cards": cards, "httpPort": 9000})
    config = configuration(found, "kubeletplugin")
    assert config["cards"] == cards
    assert config["settings"]["logLevel"] == "debug"
    assert config["settings"]["httpAddress"] == ":9000"


def test_a_change_of_cards_restarts_no_plugin_and_one_of_settings_does(tmp_path: Path) -> None:
    def template(**values: Any) -> Document:
        whole: Document = render(tmp_path, kubeletplugin=values)["DaemonSet", "hami-dra-kubeletplugin"]["spec"][
            "template"
        ]
        return whole

    assert template(cards={"mode": "whole"}) == template()
    assert template(settings={"logLevel": "debug"}) != template()


def test_plugin_is_not_privileged_by_default(tmp_path: Path) -> None:
    context = container(render(tmp_path)["DaemonSet", "hami-dra-kubeletplugin"])["securityContext"]
    assert (context["privileged"], context["allowPrivilegeEscalation"]) == (False, False)
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_plugin_that_opens_the_host_s_devices_itself_is_privileged(tmp_path: Path) -> None:
    found = render(tmp_path, kubeletplugin={"nvidia": {"access": "host", "driverRoot": "/run/nvidia/driver"}})
    pod = found["DaemonSet", "hami-dra-kubeletplugin"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["securityContext"]["privileged"] is True
    assert "runtimeClassName" not in pod
    (root,) = [one for one in pod["volumes"] if one["name"] == "driver-root"]
    assert root["hostPath"]["path"] == "/run/nvidia/driver"


def test_paths_are_the_same_inside_and_outside(tmp_path: Path) -> None:
    """The kubelet dials the path that the plugin tells it, and the runtime mounts those of the CDI spec."""
    pod = render(tmp_path)["DaemonSet", "hami-dra-kubeletplugin"]["spec"]["template"]["spec"]
    on_host = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    inside = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    assert on_host
    assert {name: inside[name] for name in on_host} == on_host


def test_an_update_brings_the_new_plugin_before_the_old_one_goes(tmp_path: Path) -> None:
    strategy = render(tmp_path)["DaemonSet", "hami-dra-kubeletplugin"]["spec"]["updateStrategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_without_a_controller_nothing_of_it_is_there(tmp_path: Path) -> None:
    found = render(tmp_path, controller={"enabled": False})
    assert [key for key in found if "controller" in key[1] or "admission" in key[1] or "migration" in key[1]] == []


def test_own_certificates_take_the_place_of_the_controller_s(tmp_path: Path) -> None:
    found = render(tmp_path, controller={"admission": {"certificateSecret": "from-cert-manager"}})
    volumes = found["Deployment", "hami-dra-controller"]["spec"]["template"]["spec"]["volumes"]
    assert "from-cert-manager" in str(volumes)
    folder = configuration(found, "controller")["settings"]["certificateFolder"]
    mounts = container(found["Deployment", "hami-dra-controller"])["volumeMounts"]
    assert folder in [one["mountPath"] for one in mounts]


def test_failure_policy_is_the_same_for_the_api_server_and_for_the_controller(tmp_path: Path) -> None:
    found = render(tmp_path, controller={"admission": {"failurePolicy": "Fail"}})
    webhooks = found["ValidatingWebhookConfiguration", "hami-dra-admission"]["webhooks"]
    assert {one["failurePolicy"] for one in webhooks} == {"Fail"}
    assert configuration(found, "controller")["settings"]["admissionFailurePolicy"] == "Fail"


def test_everything_is_in_the_release_s_namespace(tmp_path: Path) -> None:
    found = render(tmp_path, networkPolicy={"enabled": True}, monitoring={"podMonitor": {"enabled": True}})
    assert ("PodMonitor", "hami-dra") in found
    assert {name for kind, name in found if kind == "NetworkPolicy"} == {
        "hami-dra-kubeletplugin",
        "hami-dra-controller",
    }
    assert {one["metadata"]["namespace"] for one in found.values() if "namespace" in one["metadata"]} == {"elsewhere"}
    subjects = [subject for one in found.values() for subject in one.get("subjects", ())]
    assert subjects
    assert {subject["namespace"] for subject in subjects} == {"elsewhere"}
    policy = found["ValidatingAdmissionPolicy", "resourceslices.vgpu.hami.io"]
    assert "system:serviceaccount:elsewhere:" in str(policy["spec"]["matchConditions"])


def test_the_monitor_has_only_fields_of_the_operator_s(tmp_path: Path) -> None:
    """The tests' API server does not know its kind, so nothing else would find a misspelt one."""
    on = {"podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}}}
    found = render(tmp_path, monitoring=on)["PodMonitor", "hami-dra"]
    assert (found["apiVersion"], found["metadata"]["labels"]["release"]) == ("monitoring.coreos.com/v1", "prometheus")
    assert found["spec"] == {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "hami-dra"}},
        "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
    }


def test_another_driver_name_is_used_everywhere(tmp_path: Path) -> None:
    found = render(tmp_path, driverName="gpu.example.com")
    assert ("DeviceClass", "nvidia.gpu.example.com") in found
    slice_policy = str(found["ValidatingAdmissionPolicy", "resourceslices.gpu.example.com"])
    assert 'driver == "gpu.example.com"' in slice_policy
    assert configuration(found, "kubeletplugin")["settings"]["driverName"] == "gpu.example.com"


def test_older_kubernetes_is_refused_and_what_it_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"kubeVersion"):
        render(tmp_path, version="1.33.0")
    assert render(tmp_path, version="1.34.0")
