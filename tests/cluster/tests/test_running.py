"""What the other tests rely on when they use a running cluster."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, CommandFailed, NotSupported
from tests.cluster.control import LocalControl
from tests.cluster.images import pause

pytestmark = pytest.mark.e2e


def pod(name: str, namespace: str, image: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod with one container `main` that never pulls its image."""
    container: dict[str, Any] = {"name": "main", "image": image, "imagePullPolicy": "Never"}
    if command:
        container["command"] = list(command)
    metadata = {"name": name, "namespace": namespace}
    body = {"containers": [container], "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def wait_for(cluster: Cluster, namespace: str, what: str, condition: str) -> None:
    """Waits for an object's condition, as kubectl does."""
    cluster.kubectl("wait", f"--for={condition}", what, "-n", namespace, "--timeout=90s")


def test_probe_pod_runs_and_its_log_is_readable(cluster: Cluster, probe_image: str, namespace: str) -> None:
    script = "import pynvml, nvitop, cuda.bindings.driver; print('clients are here')"
    cluster.apply(pod("probe", namespace, probe_image, "python3", "-c", script, restartPolicy="Never"))
    wait_for(cluster, namespace, "pod/probe", "jsonpath={.status.phase}=Succeeded")
    assert cluster.kubectl("logs", "probe", "-n", namespace) == "clients are here\n"


def test_programs_of_the_probe_folder_are_commands_in_the_image(
    cluster: Cluster, probe_image: str, namespace: str
) -> None:
    folder = Path(__file__).parents[1] / "images/programs"
    cluster.apply(pod("probe", namespace, probe_image, "sleep", "300"))
    wait_for(cluster, namespace, "pod/probe", "condition=Ready")
    listed = cluster.kubectl("exec", "probe", "-n", namespace, "--", "ls", "/usr/local/bin").split()
    assert listed == sorted(path.name for path in folder.iterdir() if path.is_file())


def test_pod_reaches_the_api_server_by_its_service_address(cluster: Cluster, probe_image: str, namespace: str) -> None:
    script = """
import json, os, ssl, urllib.request
mount = "/var/run/secrets/kubernetes.io/serviceaccount"
token = open(f"{mount}/token").read()
host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
request = urllib.request.Request(f"https://{host}:{port}/version", headers={"Authorization": f"Bearer {token}"})
context = ssl.create_default_context(cafile=f"{mount}/ca.crt")
print(json.load(urllib.request.urlopen(request, context=context))["gitVersion"])
"""
    cluster.apply(pod("probe", namespace, probe_image, "python3", "-c", script, restartPolicy="Never"))
    wait_for(cluster, namespace, "pod/probe", "jsonpath={.status.phase}=Succeeded")
    server = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    assert cluster.kubectl("logs", "probe", "-n", namespace).strip() == server


def test_service_account_token_is_bound_to_pod_and_node(
    cluster: Cluster, probe_image: str, namespace: str, tmp_path: Path
) -> None:
    cluster.kubectl("create", "serviceaccount", "plugin", "-n", namespace)
    cluster.apply(pod("plugin", namespace, probe_image, "sleep", "300", serviceAccountName="plugin"))
    wait_for(cluster, namespace, "pod/plugin", "condition=Ready")
    kubeconfig = cluster.service_account_kubeconfig(namespace, "plugin", "plugin", path=tmp_path / "kubeconfig")
    user = json.loads(cluster.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig))["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:plugin"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["plugin"]
    assert user["extra"]["authentication.kubernetes.io/node-name"] == [cluster.node_name]


def test_service_account_without_a_role_may_not_list_slices(
    cluster: Cluster, probe_image: str, namespace: str, tmp_path: Path
) -> None:
    cluster.apply(pod("plain", namespace, probe_image, "sleep", "300"))
    wait_for(cluster, namespace, "pod/plain", "condition=Ready")
    kubeconfig = cluster.service_account_kubeconfig(namespace, "default", "plain", path=tmp_path / "kubeconfig")
    with pytest.raises(CommandFailed, match=r"cannot list resource .resourceslices."):
        cluster.kubectl("get", "resourceslices", kubeconfig=kubeconfig)


def test_user_has_the_rights_that_a_role_binding_gives(cluster: Cluster, namespace: str) -> None:
    try:
        kubeconfig = cluster.kubeconfig("some-reader", groups=["some-readers"])
    except NotSupported as reason:
        pytest.skip(str(reason))
    with pytest.raises(CommandFailed, match="cannot list"):
        cluster.kubectl("get", "pods", "-n", namespace, kubeconfig=kubeconfig)
    cluster.kubectl(
        *("create", "rolebinding", "readers", "-n", namespace, "--clusterrole=view", "--group=some-readers")
    )
    cluster.kubectl("get", "pods", "-n", namespace, kubeconfig=kubeconfig)
    with pytest.raises(CommandFailed, match="cannot create"):
        cluster.kubectl("create", "configmap", "some", "-n", namespace, kubeconfig=kubeconfig)


def shared_device_slice(cluster: Cluster) -> dict[str, Any]:
    """A slice with one card that several claims may share by memory."""
    policy = {"default": "16Gi", "validRange": {"min": "1Gi", "max": "16Gi", "step": "1Gi"}}
    device = {
        "name": "card-0",
        "allowMultipleAllocations": True,
        "capacity": {"memory": {"value": "16Gi", "requestPolicy": policy}},
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "cluster-sanity"},
        "spec": {
            "driver": "sanity.example.com",
            "nodeName": cluster.node_name,
            "pool": {"name": "sanity", "generation": 1, "resourceSliceCount": 1},
            "devices": [device],
        },
    }


def test_two_claims_are_allocated_on_one_card_by_consumable_capacity(
    cluster: Cluster, probe_image: str, namespace: str
) -> None:
    selector = {"cel": {"expression": 'device.driver == "sanity.example.com"'}}
    device_class = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "sanity.example.com"},
        "spec": {"selectors": [selector]},
    }
    try:
        cluster.apply(shared_device_slice(cluster), device_class)
        assert "sanity.example.com" in cluster.kubectl("get", "resourceslices")
        for name in ("one", "two"):
            cluster.apply(_claim(name, namespace), _claiming_pod(name, namespace, probe_image))
        for name in ("one", "two"):
            wait_for(cluster, namespace, f"resourceclaim/{name}", "jsonpath={.status.allocation}")
        claims = cluster.get("resourceclaims", "-n", namespace)["items"]
        results = [claim["status"]["allocation"]["devices"]["results"][0] for claim in claims]
        # 5.5Gi is rounded up to the step.
        assert [one["consumedCapacity"] for one in results] == [{"memory": "6Gi"}] * 2
        assert [one["device"] for one in results] == ["card-0"] * 2
        assert len({one["shareID"] for one in results}) == 2
    finally:
        cluster.kubectl("delete", "resourceslice/cluster-sanity", "--ignore-not-found")
        cluster.kubectl("delete", "deviceclass/sanity.example.com", "--ignore-not-found")


def _claim(name: str, namespace: str) -> dict[str, Any]:
    exactly = {"deviceClassName": "sanity.example.com", "capacity": {"requests": {"memory": "5632Mi"}}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"devices": {"requests": [{"name": "card", "exactly": exactly}]}},
    }


def _claiming_pod(name: str, namespace: str, image: str) -> dict[str, Any]:
    return pod(name, namespace, image, "sleep", "300", resourceClaims=[{"name": "card", "resourceClaimName": name}])


def restart_or_skip(cluster: Cluster, component: str) -> None:
    """Restarts a component; on an existing cluster the test is skipped for that reason."""
    try:
        cluster.restart(component)
    except NotSupported as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("component", ["kubelet", "containerd", "kube-apiserver"])
def test_running_pod_survives_the_restart_of_a_component(
    cluster: Cluster, probe_image: str, namespace: str, component: str
) -> None:
    cluster.apply(pod("steady", namespace, probe_image, "sleep", "600"))
    wait_for(cluster, namespace, "pod/steady", "condition=Ready")
    container = "jsonpath={.status.containerStatuses[0].containerID}"
    before = cluster.kubectl("get", "pod/steady", "-n", namespace, "-o", container)
    restart_or_skip(cluster, component)
    cluster.apply(pod("later", namespace, probe_image, "sleep", "600"))
    wait_for(cluster, namespace, "pod/later", "condition=Ready")
    assert cluster.kubectl("get", "pod/steady", "-n", namespace, "-o", container) == before
    assert cluster.kubectl("exec", "steady", "-n", namespace, "--", "echo", "alive") == "alive\n"


def test_stopped_api_server_refuses_and_comes_back(cluster: Cluster) -> None:
    try:
        cluster.stop("kube-apiserver")
    except NotSupported as reason:
        pytest.skip(str(reason))
    try:
        with pytest.raises(CommandFailed, match="refused"):
            cluster.kubectl("get", "nodes")
    finally:
        cluster.start("kube-apiserver")
    assert f"node/{cluster.node_name}" in cluster.kubectl("get", "nodes", "-o", "name")


def test_every_component_is_well_and_has_a_log(cluster: Cluster) -> None:
    try:
        states = cluster.health()
    except NotSupported as reason:
        pytest.skip(str(reason))
    assert set(states.values()) == {""}
    assert all(cluster.logs(name) for name in states)


def test_an_existing_cluster_is_used_by_its_kubeconfig(cluster: Cluster, tmp_path: Path) -> None:
    environ = {"HAMI_DRA_CLUSTER_NODE": cluster.node_name, "HAMI_DRA_KUBELET_ROOT": str(cluster.paths.kubelet_root)}
    if isinstance(cluster.control, LocalControl):
        environ["CONTAINERD_ADDRESS"] = str(cluster.control.plan.paths.containerd_socket)
    environ["XDG_CACHE_HOME"] = str(tmp_path)
    existing = Cluster.existing(cluster.admin_kubeconfig, environ)
    assert existing.paths.kubelet_registry == cluster.paths.kubelet_registry
    assert existing.get("node", existing.node_name)["metadata"]["name"] == cluster.node_name
    existing.import_image(pause.archive())
    with pytest.raises(NotSupported, match="stopping kubelet is not supported on an existing cluster"):
        existing.restart("kubelet")


def test_ports_are_closed_to_other_machines(cluster: Cluster) -> None:
    if not isinstance(cluster.control, LocalControl):
        pytest.skip("the addresses of an existing cluster are its operator's choice")
    network = cluster.control.plan.network
    reachable = {network.api_address, network.node_address}
    for port in (network.api_port, network.etcd_port, network.kubelet_port):
        with socket.socket() as outside:
            assert outside.connect_ex(("127.0.0.1", port)) != 0, f"{port} answers beyond {reachable}"


def test_node_is_ready_without_pressure(cluster: Cluster) -> None:
    conditions = cluster.get("node", cluster.node_name)["status"]["conditions"]
    states = {one["type"]: one["status"] for one in conditions}
    assert states == {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
