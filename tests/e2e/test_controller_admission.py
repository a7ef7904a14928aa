"""Admission before a real API server: what users see, and what they do not notice while replicas come and go."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dra_driver.controller.admission.features import Feature
from dra_driver.kube.connection import ServerConnection
from dra_driver.kube.errors import KubeError
from tests.cluster.errors import CommandFailed
from tests.e2e.tenant import Tenant, pod, template
from tests.stack import admission
from tests.stack.balancer import Balancer
from tests.stack.controller import Replica, replicas
from tests.stack.plugin import DRIVER
from tests.stack.stack import Stack
from tests.waiting import eventually

Wire = dict[str, Any]
# Short enough to be replaced while a test looks on, long enough for a replica that a busy machine starts slowly.
CERTIFICATE_SECONDS = 20
SWITCHED = '"event": "certificate_switched"'


def config(driver: str = DRIVER, **fields: Any) -> Wire:
    parameters = {"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "VgpuConfig", **fields}
    return {"opaque": {"driver": driver, "parameters": parameters}}


def devices(*configs: Wire, capacity: dict[str, str] | None = None, device_class: str = DRIVER) -> Wire:
    exactly = {"deviceClassName": device_class, "capacity": {"requests": capacity or {"memory": "1Gi"}}}
    return {"devices": {"requests": [{"name": "gpu", "exactly": exactly}], "config": list(configs)}}


def wire(kind: str, spec: Wire, name: str = "train") -> Wire:
    return {"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def claim(*configs: Wire, name: str = "train", **fields: Any) -> Wire:
    return wire("ResourceClaim", devices(*configs, **fields), name)


BAD = config(priority="urgent")


class Answering:
    """Two replicas behind one address, and the API server that asks there."""

    def __init__(self, stack: Stack, made: list[Replica]) -> None:
        self.stack = stack
        self.replicas = made
        self.policy = ""

    def addresses(self) -> list[str]:
        return [found for replica in self.replicas if (found := admission.address_of(replica))]

    def up(self, policy: str) -> None:
        """Bring both up with that failure policy, and wait until the API server has heard of all of it."""
        if self.policy != policy:
            self.kill()
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda replica: replica.start(admission_failure_policy=policy), self.replicas))
        self.policy = policy
        eventually(self._known, what=f"the API server asks, with {policy}")

    def kill(self) -> None:
        for replica in self.replicas:
            replica.kill()

    def standby(self) -> Replica:
        """One that is up and does not lead."""
        return next(replica for replica in self.replicas if replica.running and not replica.leads)

    def requests(self) -> float:
        """How many reviews were asked for, of all replicas."""
        metrics = "".join(_read(f"{replica.http}/metrics") for replica in self.replicas)
        lines = (line for line in metrics.splitlines() if line.startswith("vgpu_admission_requests_total"))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _known(self) -> bool:
        webhooks = self.stack.cluster.get("validatingwebhookconfiguration", "hami-dra-admission")["webhooks"]
        if any(webhook["failurePolicy"] != self.policy for webhook in webhooks):
            return False
        return len(self.addresses()) == 2 and "config[0].opaque.parameters.priority" in self._said_of_a_bad_claim()

    def _said_of_a_bad_claim(self) -> str:
        try:
            body = json.dumps(claim(BAD))
            self.stack.cluster.kubectl("--namespace", "default", "create", "--dry-run=server", "-f", "-", input=body)
        except CommandFailed as failed:
            return failed.errors
        return ""


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def answering(stack: Stack) -> Iterator[Answering]:
    if not stack.cluster.is_local:
        pytest.skip("the API server of an existing cluster does not reach this machine's loopback address")
    settings = {
        "admission_address": "127.0.0.1:0",
        "admission_names": "127.0.0.1",
        "certificate_seconds": str(CERTIFICATE_SECONDS),
        "lease_seconds": "3",
    }
    made = Answering(stack, replicas(stack, 2, **settings))
    with Balancer(made.addresses) as balancer:
        admission.install(stack.cluster, balancer.address)
        try:
            yield made
        finally:
            admission.uninstall(stack.cluster)
            made.kill()
            for replica in made.replicas:
                replica.uninstall()


@pytest.fixture
def closed(answering: Answering) -> Answering:
    """Fail-closed, and both replicas up."""
    answering.up("Fail")
    return answering


def refused(tenant: Tenant, made: Wire, *flags: str) -> str:
    """What kubectl says when it may not create this."""
    with pytest.raises(CommandFailed) as failed:
        tenant.kubectl("create", *flags, "-f", "-", stdin=json.dumps(made))
    return failed.value.errors


Disturb = Callable[[], Awaitable[None]]


def accepted(tenant: Tenant, made: Wire) -> bool:
    """Whether the API server would take this."""
    try:
        tenant.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(made))
    except CommandFailed:
        return False
    return True


class Stream:
    """Claims, good and bad ones, created all the time in dry runs; what came of them."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self.good: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()

    async def during(self, disturb: Disturb) -> None:
        """Go on while something is done, and a little longer."""
        kubeconfig = str(self._tenant.stack.cluster.admin_kubeconfig)
        async with await ServerConnection.open(kubeconfig) as connection, asyncio.TaskGroup() as tasks:
            ended = asyncio.Event()
            for seen, made in ((self.good, claim()), (self.bad, claim(BAD)), (self.good, claim())):
                tasks.create_task(self._create(connection, made, seen, ended))
            await disturb()
            ended.set()

    async def more(self, number: int) -> None:
        """Wait until that many more of both kinds have been answered, in whatever way."""
        good, bad = self.good.total() + number, self.bad.total() + number
        await asyncio.to_thread(
            eventually, lambda: self.good.total() >= good and self.bad.total() >= bad, what="claims are answered"
        )

    async def _create(self, connection: ServerConnection, made: Wire, seen: Counter[str], ended: asyncio.Event) -> None:
        path = f"/apis/resource.k8s.io/v1/namespaces/{self._tenant.namespace}/resourceclaims"
        while not ended.is_set():
            try:
                await connection.request("POST", path, query={"dryRun": "All"}, body=made)
                seen["accepted"] += 1
            except KubeError as error:
                seen["refused" if "Input should be 'high' or 'low'" in error.message else error.message] += 1


async def test_fail_open_refuses_nothing_when_nobody_answers_and_checks_again_later(
    answering: Answering, tenant: Tenant
) -> None:
    async def disturb() -> None:
        await stream.more(20)
        await asyncio.to_thread(answering.kill)
        await stream.more(20)

    answering.up("Ignore")
    stream = Stream(tenant)
    await stream.during(disturb)
    assert set(stream.good) == {"accepted"}, stream.good
    assert set(stream.bad) == {"accepted", "refused"}, stream.bad
    tenant.apply(claim(BAD, name="unchecked"))
    answering.up("Fail")
    refused(tenant, claim(BAD))
    tenant.kubectl("label", "resourceclaim", "unchecked", "team=a")
    tenant.delete("resourceclaim", "unchecked")


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (claim(BAD), "spec.devices"),
        (wire("ResourceClaimTemplate", {"spec": devices(BAD)}), "spec.spec.devices"),
        (wire("DeviceClass", {"config": [BAD]}), "spec"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_a_bad_config_is_refused_with_the_path_of_the_field(
    closed: Answering, tenant: Tenant, made: Wire, path: str
) -> None:
    for flags in ([], ["--dry-run=server"]):
        said = refused(tenant, made, *flags)
        assert f"{path}.config[0].opaque.parameters.priority: Input should be 'high' or 'low', not 'urgent'" in said
    assert tenant.try_get(made["kind"], "train") is None


def test_a_dry_run_that_is_allowed_leaves_nothing(closed: Answering, tenant: Tenant) -> None:
    tenant.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(claim(config(computePolicy="burst"))))
    assert tenant.every("resourceclaims") == []


def test_kubectl_shows_what_will_wait_for_ever(closed: Answering, tenant: Tenant) -> None:
    made = claim(capacity={"memory": "99Gi", "mem": "1Gi"})
    program, kubeconfig = tenant.stack.cluster.kubectl_program, tenant.stack.cluster.admin_kubeconfig
    command = (program, f"--kubeconfig={kubeconfig}", "--namespace", tenant.namespace, "create", "-f", "-")
    done = subprocess.run(command, input=json.dumps(made), capture_output=True, text=True, check=True, timeout=60)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    place = "Warning: spec.devices.requests[0].exactly.capacity.requests"
    unknown, large = warnings
    assert f"{place}[mem]: no card for this request has such a capacity (there are cores, memory, shares)" in unknown
    assert f"{place}[memory]: 99Gi is more than the largest card for this request can give (16Gi)" in large
    assert tenant.get("resourceclaim", "train"), "it is a warning, not a refusal"


@pytest.mark.parametrize(
    ("feature", "fields"),
    [
        (Feature.HIGH_PRIORITY, {"priority": "high"}),
        (Feature.OVERSUBSCRIBE, {"memory": {"oversubscribe": {"hostMemory": "1Gi"}}}),
    ],
)
def test_a_namespaces_label_allows_what_takes_from_others(
    closed: Answering, tenant: Tenant, feature: Feature, fields: Wire
) -> None:
    said = refused(tenant, claim(config(**fields)))
    assert "(Forbidden)" in said
    assert f"not allowed in namespace {tenant.namespace}" in said
    tenant.stack.cluster.kubectl("label", "namespace", tenant.namespace, f"{feature.label}=true")
    tenant.apply(claim(config(**fields)))


def test_a_claim_that_kubernetes_makes_is_judged_too_and_the_pod_says_why(closed: Answering, tenant: Tenant) -> None:
    label = Feature.HIGH_PRIORITY.label
    tenant.stack.cluster.kubectl("label", "namespace", tenant.namespace, f"{label}=true")
    tenant.apply(template("high", {"slice": {"memory": "1Gi"}}, config=[config(priority="high")]))
    tenant.stack.cluster.kubectl("label", "namespace", tenant.namespace, f"{label}-")
    eventually(lambda: not accepted(tenant, claim(config(priority="high"))), what="the replicas have seen that")
    tenant.apply(pod("late", "exec sleep 3600", claim_template="high"))
    (event, *_) = eventually(
        lambda: [event for event in tenant.events("late") if event.startswith("FailedResourceClaimCreation")],
        what="an event on the pod",
    )
    assert "config[0].opaque.parameters.priority: not allowed in namespace" in event


def test_kubernetes_itself_refuses_a_config_for_a_request_that_does_not_exist(
    closed: Answering, tenant: Tenant
) -> None:
    said = refused(tenant, claim({"requests": ["other"], **config()}))
    assert "must be the name of a request in the claim" in said


def test_only_what_concerns_us_is_asked_about(closed: Answering, tenant: Tenant) -> None:
    before = closed.requests()
    tenant.apply(claim(config("gpu.example.com", any=1), name="other", device_class="gpu.example.com"))
    tenant.apply(wire("DeviceClass", {"selectors": [{"cel": {"expression": "true"}}]}, tenant.namespace))
    tenant.stack.cluster.kubectl("delete", "deviceclass", tenant.namespace)
    assert closed.requests() == before
    tenant.apply(claim())
    assert closed.requests() == before + 1
    tenant.kubectl("label", "resourceclaim", "train", "team=a")
    tenant.kubectl("patch", "resourceclaim", "train", "--type=merge", "-p", '{"metadata":{"finalizers":["a.b/c"]}}')
    tenant.kubectl("patch", "resourceclaim", "train", "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
    tenant.delete("resourceclaim", "train")
    assert closed.requests() == before + 1


def test_the_largest_claim_that_kubernetes_takes_is_judged(closed: Answering, tenant: Tenant) -> None:
    choices = [{"name": f"choice-{index}", "deviceClassName": DRIVER} for index in range(8)]
    large = claim(*(config("gpu.example.com", number=index) for index in range(31)), BAD)
    large["spec"]["devices"]["requests"] = [{"name": f"r{index}", "firstAvailable": choices} for index in range(32)]
    assert "spec.devices.config[31].opaque.parameters.priority: " in refused(tenant, large)


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("update", "secret/hami-dra-admission", True),
        ("get", "secret/other", False),
        ("list", "secrets", False),
        ("create", "secrets", False),
        ("patch", "validatingwebhookconfiguration/hami-dra-admission", True),
        ("patch", "validatingwebhookconfiguration/other", False),
        ("create", "validatingwebhookconfigurations", False),
        ("patch", "mutatingwebhookconfiguration/other", False),
        ("patch", "namespaces", False),
    ],
)
def test_the_controller_has_rights_for_its_own_objects_alone(
    closed: Answering, verb: str, what: str, allowed: bool
) -> None:
    kubeconfig = closed.stack.places.processes.kubeconfig(closed.replicas[0].name)
    question = ("--namespace", "hami-dra", "auth", "can-i", verb, what)
    try:
        answer = closed.stack.cluster.kubectl(*question, kubeconfig=kubeconfig)
    except CommandFailed as failed:
        answer = failed.output
    assert answer.strip() == ("yes" if allowed else "no")


async def test_a_certificate_that_changes_and_a_replica_that_ends_are_not_noticed(
    closed: Answering, tenant: Tenant
) -> None:
    async def disturb() -> None:
        logged = [replica.log.count(SWITCHED) for replica in closed.replicas]
        await asyncio.to_thread(
            eventually,
            lambda: [replica.log.count(SWITCHED) for replica in closed.replicas] != logged,
            what="another certificate is served",
        )
        ending = closed.standby()
        await asyncio.to_thread(ending.stop)
        await asyncio.to_thread(ending.start, admission_failure_policy="Fail")
        await asyncio.to_thread(eventually, lambda: len(closed.addresses()) == 2, what="both replicas answer")
        await stream.more(50)

    stream = Stream(tenant)
    await stream.during(disturb)
    assert set(stream.good) == {"accepted"}, stream.good
    assert set(stream.bad) == {"refused"}, stream.bad


async def test_fail_closed_lets_nothing_in_unchecked_when_a_replica_is_killed(
    closed: Answering, tenant: Tenant
) -> None:
    async def disturb() -> None:
        await stream.more(50)
        await asyncio.to_thread(closed.standby().kill)
        await stream.more(50)

    stream = Stream(tenant)
    await stream.during(disturb)
    assert "accepted" not in stream.bad
    # What a replica was asked in the moment of its death nobody answers: at most one claim of each task.
    unanswered = stream.good.total() - stream.good["accepted"]
    assert unanswered <= 2, stream.good


def test_fail_closed_holds_up_our_claims_alone(closed: Answering, tenant: Tenant) -> None:
    tenant.apply(claim(name="before"))
    closed.kill()
    said = refused(tenant, claim())
    assert 'failed calling webhook "resourceclaims.vgpu.hami.io"' in said
    tenant.apply(claim(config("gpu.example.com", any=1), name="other", device_class="gpu.example.com"))
    for namespace in ("kube-system", "hami-dra"):
        body = json.dumps(claim())
        tenant.stack.cluster.kubectl("--namespace", namespace, "create", "--dry-run=server", "-f", "-", input=body)
    tenant.kubectl("label", "resourceclaim", "before", "team=a")
    tenant.delete("resourceclaim", "before")
