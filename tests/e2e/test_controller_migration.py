"""Pods written for HAMi before a real API server, scheduler and kubelet: they run unchanged, and leave nothing."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from dra_driver.kubectl.__main__ import main as vgpu
from tests.cluster.errors import CommandFailed
from tests.e2e.tenant import Tenant, grants
from tests.stack import admission
from tests.stack.balancer import Balancer
from tests.stack.controller import Replica, replicas
from tests.stack.places import EXAMPLES
from tests.stack.stack import Stack
from tests.waiting import eventually

Wire = dict[str, Any]
MANIFESTS = Path(__file__).parent / "hami-manifests"
GRACE_SECONDS = 2
MIB = 1 << 20

# What each container of the pods in cards/ must see: MiB of each of its cards, cores, priority.
EXPECTED: dict[tuple[str, str], tuple[list[int], int, str]] = {
    ("memory-and-cores", "main"): ([3000], 30, "low"),
    ("memory-alone", "main"): ([1000], 0, "low"),
    ("part-of-two-cards", "main"): ([4096, 4096], 10, "low"),
    ("whole-card", "main"): ([16384], 100, "low"),
    ("volcanos-names", "main"): ([1000], 10, "low"),
    ("high-priority", "main"): ([500], 0, "high"),
    ("this-card", "main"): ([500], 0, "low"),
    ("not-this-card", "main"): ([500], 0, "low"),
    ("this-type", "main"): ([500], 0, "low"),
    # It runs before the container `second`, which asks for more, and uses its claim.
    ("several-containers", "small"): ([1000], 0, "low"),
    ("several-containers", "large"): ([4000], 0, "low"),
    ("several-containers", "sidecar"): ([300], 0, "low"),
    ("several-containers", "main"): ([2000], 20, "low"),
    ("several-containers", "second"): ([1000], 0, "low"),
}
SECOND_CARD = "GPU-d793f439-b318-5203-adb1-01233718d81f"
VOLCANO_JOBS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "jobs.batch.volcano.sh"},
    "spec": {
        "group": "batch.volcano.sh",
        "scope": "Namespaced",
        "names": {"kind": "Job", "plural": "jobs"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def controller(stack: Stack) -> Iterator[Replica]:
    """One replica that answers the API server, known to it."""
    (replica,) = replicas(
        stack,
        1,
        admission_address="127.0.0.1:0",
        admission_names="127.0.0.1",
        admission_failure_policy="Fail",
        certificate_seconds="120",
        garbage_grace_seconds=str(GRACE_SECONDS),
        lease_seconds="3",
    )
    with Balancer(lambda: [found] if (found := admission.address_of(replica)) else []) as balancer:
        admission.install(stack.cluster, balancer.address)
        try:
            replica.start()
            yield replica
        finally:
            admission.uninstall(stack.cluster)
            replica.uninstall()


@pytest.fixture
def team(tenant: Tenant, controller: Replica) -> Tenant:
    """A tenant whose namespace wants the migration, once the API server asks the controller."""
    labels = ("vgpu.hami.io/migrate=hami", "vgpu.hami.io/allow-high-priority=true")
    tenant.stack.cluster.kubectl("label", "namespace", tenant.namespace, *labels)

    def answered() -> bool:
        try:
            made = create(tenant, hami_pod("first", {"nvidia.com/gpu": 1}), "--dry-run=server")
        except CommandFailed:
            return False
        return "resourceClaims" in made["spec"]

    eventually(answered, what="the API server asks the controller")
    return tenant


def hami_pod(name: str, limits: dict[str, int], **metadata: Any) -> Wire:
    """A pod that is never scheduled."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "schedulingGates": [{"name": "example.com/never"}],
            "containers": [{"name": "main", "image": "example.com/any", "resources": {"limits": limits}}],
        },
    }


def create(tenant: Tenant, made: Wire, *flags: str) -> Wire:
    """Create an object; returns it as stored. Raises CommandFailed."""
    stored: Wire = json.loads(tenant.kubectl("create", *flags, "-o", "json", "-f", "-", stdin=json.dumps(made)))
    return stored


def wait_gone(tenant: Tenant) -> None:
    """Wait until no claim and no template is left in the namespace."""
    eventually(
        lambda: not tenant.every("resourceclaims") and not tenant.every("resourceclaimtemplates"),
        what="claims and templates are gone",
    )


def wait_claims(tenant: Tenant, number: int) -> None:
    """Wait until there are so many claims."""
    eventually(lambda: len(tenant.every("resourceclaims")) == number, what=f"{number} claims are there", every=0.02)


def told_by(tenant: Tenant, pod: str, container: str) -> Wire:
    """What a container that may have ended has told."""
    told: Wire = json.loads(tenant.kubectl("logs", pod, "-c", container).splitlines()[0])
    return told


def test_pods_of_every_kind_run_to_completion_with_what_they_asked_for(team: Tenant) -> None:
    team.kubectl("apply", "-f", str(MANIFESTS / "cards"))
    eventually(
        lambda: {pod["status"]["phase"] for pod in team.every("pods")} == {"Succeeded"},
        what=f"all pods have ended; events: {team.events('whole-card')}",
        timeout=180,
    )
    for (pod, container), (mebibytes, cores, priority) in EXPECTED.items():
        told = told_by(team, pod, container)
        assert [device["total"] // MIB for device in told["cuda"]] == mebibytes, (pod, container)
        assert len({device["uuid"] for device in told["nvml"]}) == len(mebibytes)
        assert all(
            words.endswith(f"cores={cores},policy=fixed,priority={priority}") for words in told["shares"].values()
        )
    for pod in ("this-card", "not-this-card"):
        assert told_by(team, pod, "main")["cuda"][0]["uuid"] == SECOND_CARD
    team.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=60s")
    wait_gone(team)


def test_pods_that_controllers_make_run_and_share_a_template(team: Tenant) -> None:
    manifests = str(MANIFESTS / "workloads/controllers.yaml")
    team.kubectl("apply", "--dry-run=server", "-f", manifests)
    assert team.every("pods") == team.every("resourceclaimtemplates") == []
    team.kubectl("apply", "-f", manifests)
    team.kubectl("wait", "--for=condition=Complete", "job/job", "--timeout=120s")
    for workload in ("deployment/deployment", "statefulset/statefulset", "daemonset/daemonset"):
        team.kubectl("rollout", "status", workload, "--timeout=120s")
    running = [pod for pod in team.every("pods") if pod["status"]["phase"] == "Running"]
    assert len(running) == 4
    for pod in running:
        told = team.told(pod["metadata"]["name"])
        assert [device["total"] // MIB for device in told["cuda"]] == [1000]
    assert len(team.every("resourceclaimtemplates")) == 1
    team.kubectl("delete", "-f", manifests, "--wait=true", "--timeout=60s")
    wait_gone(team)


def test_the_example_runs_in_a_namespace_that_knows_nothing_of_it(tenant: Tenant, controller: Replica) -> None:
    eventually(lambda: try_migrated(tenant), what="the API server asks the controller")
    tenant.kubectl("apply", "-f", str(EXAMPLES / "migration"))
    tenant.kubectl("rollout", "status", "deployment/migration", "--timeout=120s")
    for pod in tenant.every("pods"):
        told = tenant.told(pod["metadata"]["name"])
        assert [device["total"] // MIB for device in told["cuda"]] == [3000]
    tenant.kubectl("delete", "-f", str(EXAMPLES / "migration"), "--wait=true", "--timeout=60s")


def try_migrated(tenant: Tenant) -> bool:
    """Whether the controller is asked about pods that want it."""
    wire = hami_pod("first", {"nvidia.com/gpu": 1}, labels={"vgpu.hami.io/migrate": "hami"})
    try:
        return "resourceClaims" in create(tenant, wire, "--dry-run=server")["spec"]
    except CommandFailed:
        return False


def test_a_job_of_volcano_is_stored_with_claims(team: Tenant) -> None:
    team.stack.cluster.apply(VOLCANO_JOBS)
    try:
        team.stack.cluster.kubectl("wait", "--for=condition=Established", "crd/jobs.batch.volcano.sh")
        job = yaml.safe_load((MANIFESTS / "workloads/volcano-job.yaml").read_text())
        stored = eventually(lambda: try_create(team, job), what="the API server serves jobs of Volcano")
    finally:
        team.stack.cluster.kubectl("delete", "crd", "jobs.batch.volcano.sh")
    (task,) = stored["spec"]["tasks"]
    (container,) = task["template"]["spec"]["containers"]
    assert container["resources"] == {"claims": [{"name": "vgpu-main"}]}
    # What Volcano makes of it is a pod with this template.
    pod = {"apiVersion": "v1", "kind": "Pod", **task["template"]}
    pod["metadata"] = {**task["template"]["metadata"], "name": "volcano-job-worker-0"}
    team.apply(pod)
    eventually(lambda: team.get("pod", "volcano-job-worker-0")["status"]["phase"] == "Succeeded", what="it runs")
    assert [device["total"] // MIB for device in told_by(team, "volcano-job-worker-0", "main")["cuda"]] == [1000]


def try_create(tenant: Tenant, made: Wire) -> Wire | None:
    try:
        return create(tenant, made)
    except CommandFailed:
        return None


@pytest.fixture
def elsewhere(stack: Stack) -> Iterator[None]:
    """A node that only the API knows, with cards of the other vendors."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "elsewhere", "labels": {"kubernetes.io/hostname": "elsewhere"}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "Said", "lastHeartbeatTime": None}],
            "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "20"},
            "capacity": {"cpu": "8", "memory": "8Gi", "pods": "20"},
        },
    }
    stack.cluster.apply(node)
    stack.cluster.kubectl(
        "patch", "node", "elsewhere", "--subresource=status", "-p", json.dumps({"status": node["status"]})
    )
    stack.cluster.apply(
        foreign_slice("hygon", "K100_AI", "64Gi"),
        foreign_slice("ascend", "910B3", "64Gi", sizes=("16Gi", "32Gi", "64Gi")),
        foreign_slice("kunlunxin", "P800", "96Gi", sizes=("24Gi", "48Gi", "96Gi"), cards=2),
    )
    yield
    stack.cluster.kubectl("delete", "resourceslices", "--field-selector=spec.nodeName=elsewhere")
    stack.cluster.kubectl("delete", "node", "elsewhere")


def foreign_slice(vendor: str, model: str, memory: str, *, sizes: tuple[str, ...] = (), cards: int = 1) -> Wire:
    """A slice as the vendor's backend would publish it."""
    amounts = {"validValues": list(sizes)} if sizes else {"validRange": {"min": "1Mi", "max": memory, "step": "1Mi"}}
    attributes = {"vendor": vendor, "model": model}
    capacity = {
        "memory": {"value": memory, "requestPolicy": {"default": memory, **amounts}},
        "cores": {"value": "100", "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100"}}},
    }
    devices = [
        {
            "name": f"card-{index}",
            "allowMultipleAllocations": True,
            "attributes": {
                **{name: {"string": text} for name, text in attributes.items()},
                "uuid": {"string": f"{vendor}-{index}"},
            },
            "capacity": capacity,
        }
        for index in range(cards)
    ]
    pool = {"name": f"elsewhere-{vendor}", "generation": 1, "resourceSliceCount": 1}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"elsewhere-{vendor}"},
        "spec": {"driver": "vgpu.hami.io", "nodeName": "elsewhere", "pool": pool, "devices": devices},
    }


def test_pods_for_cards_of_the_other_vendors_are_given_such_cards(team: Tenant, elsewhere: None) -> None:
    team.kubectl("apply", "-f", str(MANIFESTS / "elsewhere"))
    expected = {
        "hygon": ("card-0", {"memory": "2000Mi", "cores": "60"}),
        "ascend": ("card-0", {"memory": "16Gi", "cores": "0"}),
        "kunlunxin": ("card-0", {"memory": "24Gi", "cores": "0"}),
        "kunlunxin-whole": ("card-1", {"memory": "96Gi", "cores": "100"}),
    }

    def allocated() -> dict[str, Any]:
        claims = team.every("resourceclaims")
        if any("allocation" not in claim["status"] for claim in claims) or len(claims) < len(expected):
            return {}
        (given,) = zip(*[grants(claim) for claim in claims], strict=True)
        owners = [claim["metadata"]["ownerReferences"][0]["name"] for claim in claims]
        return {owner: (one.device, one.consumed) for owner, one in zip(owners, given, strict=True)}

    found = eventually(allocated, what="every claim has its card")
    assert {pod: amounts for pod, (_, amounts) in found.items()} == {
        pod: amounts for pod, (_, amounts) in expected.items()
    }
    assert found["kunlunxin"][0] != found["kunlunxin-whole"][0]
    team.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


def test_a_pod_chooses_for_itself_whether_it_is_migrated(team: Tenant) -> None:
    limits = {"nvidia.com/gpu": 1}
    out = create(team, hami_pod("out", limits, labels={"vgpu.hami.io/migrate": "off"}), "--dry-run=server")
    assert out["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    team.stack.cluster.kubectl("label", "namespace", team.namespace, "vgpu.hami.io/migrate-")
    alone = create(team, hami_pod("alone", limits), "--dry-run=server")
    assert "resourceClaims" not in alone["spec"]
    chosen = create(team, hami_pod("chosen", limits, labels={"vgpu.hami.io/migrate": "hami"}), "--dry-run=server")
    assert [entry["name"] for entry in chosen["spec"]["resourceClaims"]] == ["vgpu-main"]


def test_what_cannot_be_mapped_is_said_to_whoever_creates_it(team: Tenant) -> None:
    with pytest.raises(CommandFailed, match=r"nvidia\.com/gpumem.*must be a whole number from 0 to"):
        create(team, hami_pod("train", {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 1 << 40}))
    team.stack.cluster.kubectl("label", "namespace", team.namespace, "vgpu.hami.io/allow-high-priority-")
    urgent = hami_pod("urgent", {"nvidia.com/gpu": 1, "nvidia.com/priority": 0})

    def refused() -> str:
        try:
            create(team, urgent, "--dry-run=server")
        except CommandFailed as failed:
            return str(failed)
        return ""

    assert "vgpu.hami.io/allow-high-priority=true" in eventually(refused, what="high priority is refused")


def test_kubectl_shows_what_comes_out_otherwise(team: Tenant) -> None:
    made = hami_pod("train", {"nvidia.com/gpu": 1}, annotations={"hami.io/gpu-scheduler-policy": "spread"})
    program, kubeconfig = team.stack.cluster.kubectl_program, team.stack.cluster.admin_kubeconfig
    command = (program, f"--kubeconfig={kubeconfig}", "--namespace", team.namespace, "create", "-f", "-")
    done = subprocess.run(command, input=json.dumps(made), capture_output=True, text=True, check=True, timeout=60)
    assert "Warning: metadata.annotations[hami.io/gpu-scheduler-policy]: 'spread' has no effect" in done.stderr


def test_a_claim_is_there_soon_after_its_pod(team: Tenant) -> None:
    for number in range(5):
        create(team, hami_pod(f"pod-{number}", {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 100 + number}))
        wait_claims(team, number + 1)
    made = {pod["metadata"]["name"]: created(pod) for pod in team.every("pods")}
    seconds = [
        (created(claim) - made[claim["metadata"]["ownerReferences"][0]["name"]]).total_seconds()
        for claim in team.every("resourceclaims")
    ]
    # As the API server tells it, in whole seconds.
    assert statistics.median(seconds) <= 2.0, seconds


def created(wire: Wire) -> datetime:
    return datetime.fromisoformat(wire["metadata"]["creationTimestamp"])


def test_pods_that_come_and_go_leave_no_template(team: Tenant) -> None:
    pods = [hami_pod(f"pod-{n}", {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 100 + n % 10}) for n in range(30)]
    team.apply(*pods)
    eventually(lambda: len(team.every("resourceclaimtemplates")) == 10, what="their templates are there")
    team.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=60s")
    wait_gone(team)


def test_converted_manifests_run_without_the_migration(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    tenant.stack.cluster.kubectl("label", "namespace", tenant.namespace, "vgpu.hami.io/allow-high-priority=true")
    kubeconfig = str(tenant.stack.cluster.admin_kubeconfig)
    arguments = [
        "--kubeconfig",
        kubeconfig,
        "-f",
        str(MANIFESTS / "cards"),
        "-f",
        str(MANIFESTS / "workloads/controllers.yaml"),
    ]
    assert vgpu(["convert", *arguments]) == 0
    converted = capsys.readouterr().out
    tenant.kubectl("apply", "--dry-run=server", "-f", "-", stdin=converted)
    names = ("part-of-two-cards", "part-of-two-cards-main")
    few = [wire for wire in yaml.safe_load_all(converted) if wire["metadata"]["name"] in names]
    assert len(few) == 2
    tenant.apply(*few)
    eventually(lambda: tenant.get("pod", names[0])["status"]["phase"] == "Succeeded", what="it runs to completion")
    assert [device["total"] // MIB for device in told_by(tenant, names[0], "main")["cuda"]] == [4096, 4096]
