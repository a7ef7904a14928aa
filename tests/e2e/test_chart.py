"""The driver as an administrator has it: chart and images, from the installation to an uninstallation without trace."""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.chaos.stream import Stream
from tests.cluster.control import LocalControl
from tests.cluster.errors import CommandFailed
from tests.e2e.aftermath import left_behind
from tests.e2e.tenant import Tenant, Wire, pod, template
from tests.e2e.test_examples import FOLDERS, check_container
from tests.stack import chart
from tests.stack.cards import NVIDIA_RUNTIME
from tests.stack.chart import NAMESPACE, NODE_LABEL, RELEASE, Installation
from tests.stack.places import EXAMPLES
from tests.stack.plugin import DRIVER
from tests.stack.service_address import reachable
from tests.stack.stack import Stack
from tests.waiting import eventually

# Without slices: the kubelet takes those of a plugin that has gone away, half a minute later.
KINDS = (
    *("clusterroles", "clusterrolebindings", "deviceclasses", "validatingadmissionpolicies"),
    *("validatingadmissionpolicybindings", "validatingwebhookconfigurations", "mutatingwebhookconfigurations"),
    *("namespaces", "priorityclasses", "customresourcedefinitions"),
)

CARD_NODES = {"nvidia-uvm", "nvidia-uvm-tools", "nvidia0", "nvidia1", "nvidiactl"}


def cluster_objects(stack: Stack) -> set[str]:
    """All objects of kinds that belong to no namespace, as far as the driver could have made them."""
    found = stack.cluster.kubectl("get", ",".join(KINDS), "-o", "name").split()
    return {name for name in found if "hami" in name}


@pytest.fixture(scope="module")
def bare(stack: Stack) -> Iterator[Stack]:
    """The stack without the driver; afterwards it is there again as it was."""
    if not isinstance(stack.cluster.control, LocalControl):
        pytest.skip("needs a cluster of its own: what is installed on this one is not to be touched")
    assert NVIDIA_RUNTIME in stack.cluster.control.plan.runtimes, "the cluster is an older one: take it down first"
    stack.plugin.stop()
    stack.plugin.uninstall()
    stack.cluster.kubectl("label", "node", stack.cluster.node_name, f"{NODE_LABEL}=true", "--overwrite")
    stack.cluster.apply(chart.RUNTIME_CLASS)
    yield stack
    stack.cluster.kubectl("delete", "runtimeclass", NVIDIA_RUNTIME)
    stack.cluster.kubectl("label", "node", stack.cluster.node_name, f"{NODE_LABEL}-")
    stack.plugin.install()
    stack.plugin.start()
    stack.wait_published()


@pytest.fixture(scope="module")
def before(bare: Stack) -> set[str]:
    return cluster_objects(bare)


@pytest.fixture(scope="module")
def installation(bare: Stack, before: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The chart, installed from the built images; the controller's Service is reachable."""
    for archive in chart.build_images(tmp_path_factory.mktemp("images")).values():
        bare.cluster.import_image(archive)
    installed = Installation(bare, tmp_path_factory.mktemp("values"))
    installed.install()
    with controller_reachable(bare):
        bare.wait_published()
        yield installed
    installed.uninstall()
    check_nothing_is_left(bare, before)


def controller_reachable(stack: Stack) -> AbstractContextManager[None]:
    """Within it, the API server's calls reach the controller of the installation that there is."""
    assert isinstance(stack.cluster.control, LocalControl)
    return reachable(stack.cluster, NAMESPACE, "hami-dra-controller", stack.cluster.control.plan.network.bridge)


@pytest.fixture
def guest(installation: Installation, bare: Stack) -> Iterator[Tenant]:
    """A namespace of the test's own."""
    tenant = Tenant(bare, f"chart-{uuid.uuid4().hex[:8]}")
    tenant.create()
    yield tenant
    tenant.remove()


def check_nothing_is_left(stack: Stack, before: set[str]) -> None:
    """No object of the driver's in the API, and nothing on the node that docs/install.md does not name."""
    stack.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--ignore-not-found")
    eventually(lambda: cluster_objects(stack) == before, what="the cluster is as it was", timeout=60)
    assert left_behind(stack) == []


def pods(stack: Stack, component: str) -> list[dict[str, Any]]:
    selector = f"--selector=app.kubernetes.io/component={component}"
    found: list[dict[str, Any]] = stack.cluster.get("pods", "--namespace", NAMESPACE, selector)["items"]
    return found


def test_installed_pods_are_ready_and_no_more_than_they_must_be(installation: Installation, bare: Stack) -> None:
    (plugin,) = pods(bare, "kubeletplugin")
    assert plugin["spec"]["runtimeClassName"] == NVIDIA_RUNTIME
    assert plugin["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    controllers = pods(bare, "controller")
    assert len(controllers) == 2
    assert all(one["spec"]["securityContext"]["runAsNonRoot"] for one in controllers)
    for one in (plugin, *controllers):
        assert {"type": "Ready", "status": "True"}.items() <= _condition(one, "Ready").items()


def _condition(wire: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in wire["status"]["conditions"] if one["type"] == kind)


def in_the_plugin(stack: Stack, program: str) -> list[str]:
    """What a few lines of Python print in the plugin's container, with the plugin's own rights."""
    command = ("exec", "daemonset/hami-dra-kubeletplugin", "--", "/usr/bin/python3.11", "-c", program)
    return stack.cluster.kubectl("--namespace", NAMESPACE, *command).split()


def test_the_plugin_works_without_one_privilege(installation: Installation, bare: Stack) -> None:
    """As the kernel has it, not as the pod asks for it: no capability, few system calls, the cards' devices alone."""
    status = in_the_plugin(bare, "print(open('/proc/1/status').read())")
    said = dict(pairwise(status))
    capabilities = [said[f"Cap{name}:"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    assert set(capabilities) == {"0" * 16}
    assert (said["NoNewPrivs:"], said["Seccomp:"]) == ("1", "2")
    devices = in_the_plugin(bare, "import os; print(*(e.name for e in os.scandir('/dev')))")
    assert {name for name in devices if name.startswith("nvidia")} == CARD_NODES
    assert "kmsg" not in devices
    assert in_the_plugin(bare, "import os; print(os.path.exists('/dev/kmsg') or os.path.exists('/dev/vda'))") == [
        "False"
    ]
    (wire,) = bare.slices()
    assert len(wire["spec"]["devices"]) == 2


def test_metrics_of_a_share_come_from_the_plugin_without_privileges(guest: Tenant) -> None:
    guest.apply(template("sliver", {"sliver": {"memory": "512Mi", "cores": "1"}}))
    guest.apply(pod("holds", "exec vgpu-probe hold --memory 64Mi --seconds 3600", claim_template="sliver"))
    guest.wait_running("holds")
    assert guest.told("holds")["result"] == "CUDA_SUCCESS"
    (plugin,) = pods(guest.stack, "kubeletplugin")
    url = f"http://{plugin['status']['podIP']}:8080/metrics"

    def held() -> bool:
        with urllib.request.urlopen(url, timeout=20) as answer:
            samples = [sample for family in parse(answer.read().decode()) for sample in family.samples]
        return any(
            sample.name == "vgpu_share_memory_used_bytes" and sample.value >= 64 << 20
            for sample in samples
            if sample.labels.get("namespace") == guest.namespace
        )

    eventually(held, what="the share's memory is seen")


def test_helm_test_sees_the_whole_way_work(installation: Installation) -> None:
    told = installation.run("test", RELEASE, "--timeout", "2m")
    assert "Succeeded" in told


@pytest.mark.parametrize("example", ["one-slice", "two-cards"])
def test_examples_run_on_the_installed_driver(guest: Tenant, example: str) -> None:
    assert example in FOLDERS
    for wire in guest.apply_folder(EXAMPLES / example):
        guest.wait_running(wire["metadata"]["name"])
        for container in wire["spec"]["containers"]:
            check_container(guest, wire["metadata"]["name"], container)


def test_a_wrong_configuration_is_refused_through_the_service(guest: Tenant) -> None:
    wrong = {"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "VgpuConfig", "computePolicy": "generous"}
    config = [{"opaque": {"driver": "vgpu.hami.io", "parameters": wrong}}]
    with pytest.raises(CommandFailed, match="computePolicy"):
        guest.apply(template("wrong", {"share": {"memory": "1Gi"}}, config=config))


def test_high_priority_needs_the_namespace_s_label_whatever_the_controller_does(guest: Tenant) -> None:
    wanted = {"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "VgpuConfig", "priority": "high"}
    config = [{"opaque": {"driver": "vgpu.hami.io", "parameters": wanted}}]
    guest.stack.cluster.kubectl("--namespace", NAMESPACE, "scale", "deployment", "hami-dra-controller", "--replicas=0")
    try:
        eventually(lambda: not pods(guest.stack, "controller"), what="the controller is away", timeout=60)
        with pytest.raises(CommandFailed, match="allow-high-priority"):
            guest.apply(template("urgent", {"share": {"memory": "1Gi"}}, config=config))
        guest.stack.cluster.kubectl("label", "namespace", guest.namespace, "vgpu.hami.io/allow-high-priority=true")
        guest.apply(template("urgent", {"share": {"memory": "1Gi"}}, config=config))
    finally:
        guest.stack.cluster.kubectl(
            *("--namespace", NAMESPACE, "scale", "deployment", "hami-dra-controller", "--replicas=2")
        )
        guest.stack.cluster.kubectl(
            *("--namespace", NAMESPACE, "rollout", "status", "deployment", "hami-dra-controller", "--timeout=120s")
        )


def test_upgrade_and_downgrade_under_a_stream_of_pods_fail_none(guest: Tenant, installation: Installation) -> None:
    """The node plugin is exchanged twice while pods come and go: for one that opens the host's devices, and back."""
    guest.apply(template("sliver", {"sliver": {"memory": "512Mi", "cores": "1"}}))
    with Stream(guest) as stream:
        stream.more(2)
        installation.upgrade(installation.values_for_host_access())
        staying = [one for one in pods(guest.stack, "kubeletplugin") if "deletionTimestamp" not in one["metadata"]]
        assert [one["spec"]["containers"][0]["securityContext"]["privileged"] for one in staying] == [True]
        stream.more(2)
        installation.run("rollback", RELEASE, "--wait", "--timeout", "3m")
        stream.more(2)
        stream.end()
    failed = [
        event["message"]
        for event in guest.every("events")
        if event["reason"] in ("FailedPrepareDynamicResources", "FailedUnprepareDynamicResources", "Failed")
    ]
    assert failed == []


def test_a_pod_of_the_installed_driver_outlives_its_plugin(guest: Tenant) -> None:
    guest.apply(template("sliver", {"sliver": {"memory": "512Mi", "cores": "1"}}))
    guest.apply(pod("steady", "exec sleep 3600", claim_template="sliver"))
    started = guest.wait_running("steady")["status"]["startTime"]
    guest.stack.cluster.kubectl(
        *("--namespace", NAMESPACE, "rollout", "restart", "daemonset", "hami-dra-kubeletplugin"),
    )
    guest.stack.cluster.kubectl(
        *("--namespace", NAMESPACE, "rollout", "status", "daemonset", "hami-dra-kubeletplugin", "--timeout=120s")
    )
    after = guest.get("pod", "steady")["status"]
    assert (after["phase"], after["startTime"]) == ("Running", started)
    assert after["containerStatuses"][0]["restartCount"] == 0


def still_running(tenant: Tenant, before: Wire) -> bool:
    """Whether a pod is the one that it was, and no container of it was started again."""
    now = tenant.get("pod", before["metadata"]["name"])
    same = all(now["metadata"][key] == before["metadata"][key] for key in ("uid", "name"))
    return same and [one["restartCount"] for one in now["status"]["containerStatuses"]] == [0]


def check_a_share_can_be_had(tenant: Tenant, name: str) -> None:
    tenant.apply(pod(name, "exec sleep 3600", claim_template="sliver"))
    tenant.wait_running(name)


def test_a_driver_in_use_is_not_taken_away(guest: Tenant, installation: Installation) -> None:
    """Both ways ask first and change nothing; a refused uninstallation ends with the rollback of docs/uninstall.md."""
    guest.apply(template("sliver", {"sliver": {"memory": "512Mi", "cores": "1"}}))
    guest.apply(pod("holds", "exec sleep 3600", claim_template="sliver"))
    before = guest.wait_running("holds")
    (claim,) = guest.claims_of("holds").values()
    (plugin,) = pods(guest.stack, "kubeletplugin")
    with pytest.raises(CommandFailed, match="hami-dra-in-use"):
        installation.clean()
    (deployed,) = (one["revision"] for one in installation.revisions() if one["status"] == "deployed")
    with pytest.raises(CommandFailed, match="hami-dra-in-use"):
        installation.uninstall()
    told = guest.stack.cluster.kubectl("--namespace", NAMESPACE, "logs", "job/hami-dra-in-use")
    assert f"{guest.namespace}/{claim['metadata']['name']}" in told
    assert installation.revisions()[-1]["status"] == "uninstalling"
    installation.run("rollback", RELEASE, str(deployed), "--wait", "--timeout", "3m")
    assert installation.revisions()[-1]["status"] == "deployed"
    assert [one["metadata"]["uid"] for one in pods(guest.stack, "kubeletplugin")] == [plugin["metadata"]["uid"]]
    assert still_running(guest, before)
    check_a_share_can_be_had(guest, "another")


def on_the_node(stack: Stack) -> list[str]:
    """What the driver has on the node."""
    places = (stack.places.state, stack.plugin.checkpoint.parent)
    return [
        *(str(folder) for folder in places if folder.exists()),
        *map(str, stack.cluster.paths.cdi_dynamic.glob(f"{DRIVER}*")),
        *map(str, stack.cluster.paths.kubelet_registry.glob(f"{DRIVER}*")),
    ]


def test_a_node_is_cleaned_and_takes_the_driver_again(
    bare: Stack, before: set[str], installation: Installation
) -> None:
    assert len(on_the_node(bare)) >= 4
    others = {*bare.cluster.paths.kubelet_plugins.iterdir()} - {bare.plugin.checkpoint.parent}
    installation.clean()
    (cleaner,) = pods(bare, "cleanup")
    assert _condition(cleaner, "Ready")["status"] == "True"
    assert on_the_node(bare) == []
    assert {*bare.cluster.paths.kubelet_plugins.iterdir()} == others
    installation.uninstall()
    assert cluster_objects(bare) - before == {f"namespace/{NAMESPACE}"}
    installation.install()
    tenant = Tenant(bare, f"chart-{uuid.uuid4().hex[:8]}")
    with controller_reachable(bare):
        tenant.create()
        tenant.apply(template("sliver", {"sliver": {"memory": "512Mi", "cores": "1"}}))
        check_a_share_can_be_had(tenant, "first")
        tenant.remove()
