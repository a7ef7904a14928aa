"""Two replicas of the controller: one acts, and the other does when that one is stopped, killed or cut off."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.errors import CommandFailed, NotSupported
from tests.e2e.tenant import Tenant, Wire, pod, template
from tests.stack.controller import Replica, replicas
from tests.stack.stack import Stack
from tests.waiting import eventually

TAKE_OVER_SECONDS = 20.0
MORE_THAN_A_NODE_HAS = {"gpu": {"memory": "512Gi"}}


@pytest.fixture(scope="module")
def pair(stack: Stack) -> Iterator[list[Replica]]:
    both = replicas(stack, 2)
    for replica in both:
        replica.start()
    yield both
    for replica in both:
        replica.uninstall()


def roles(pair: list[Replica]) -> tuple[Replica, Replica]:
    """The one that leads and the other, once one does."""
    leader = eventually(lambda: next((one for one in pair if one.running and one.leads), None), what="one leads")
    (other,) = (one for one in pair if one is not leader)
    return leader, other


def told(replica: Replica) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The figures of a replica."""
    with urllib.request.urlopen(f"{replica.http}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figure(replica: Replica, name: str, **labels: str) -> float | None:
    """One figure; None where there is none."""
    return told(replica).get((name, frozenset(labels.items())))


def wait_templates(replica: Replica, number: float) -> None:
    """Wait until a replica knows of so many templates."""
    what = f"{replica.name} knows of {number:.0f} templates"
    eventually(lambda: figure(replica, "vgpu_controller_objects", kind="templates") == number, what=what)


def is_ready(replica: Replica) -> bool:
    for probe in ("healthz", "readyz"):
        with urllib.request.urlopen(f"{replica.http}/{probe}", timeout=20) as answer:
            if answer.status != 200:
                return False
    return True


def waiting_pods(number: int, start: int) -> list[Wire]:
    """Pods that wait, since no card has what they ask for."""
    pods = [pod(f"waits-{index}", "true", claim_template="too-much") for index in range(start, start + number)]
    return [template("too-much", MORE_THAN_A_NODE_HAS), *pods]


def explanations(tenant: Tenant) -> Counter[str]:
    """How often each claim was told why it waits."""
    fields = "--field-selector=involvedObject.kind=ResourceClaim,type=Warning"
    items = tenant.stack.cluster.get("--namespace", tenant.namespace, "events", fields)["items"]
    return Counter(item["involvedObject"]["name"] for item in items)


def test_one_replica_leads_and_both_are_ready(pair: list[Replica]) -> None:
    leader, other = roles(pair)
    assert (figure(leader, "vgpu_controller_leader"), figure(other, "vgpu_controller_leader")) == (1, 0)
    assert all(is_ready(replica) for replica in pair)


def test_figures_of_the_cluster_are_told_by_the_leader_alone(pair: list[Replica]) -> None:
    leader, other = roles(pair)
    tellers = [{name for name, _ in told(replica) if name.startswith("vgpu_node_")} for replica in (leader, other)]
    assert "vgpu_node_memory_free_bytes" in tellers[0]
    assert not tellers[1]


def test_after_a_clean_stop_the_other_leads_at_once(pair: list[Replica]) -> None:
    leader, other = roles(pair)
    leader.stop()
    stopped = time.monotonic()
    eventually(lambda: other.leads, what="the other leads", every=0.05)
    assert time.monotonic() - stopped < 3
    assert '"event": "lease_released"' in leader.log
    leader.start()


def test_a_killed_leader_is_replaced_within_20_seconds_and_no_claim_is_told_twice(
    pair: list[Replica], tenant: Tenant
) -> None:
    leader, other = roles(pair)
    tenant.apply(*waiting_pods(10, 0))
    eventually(lambda: len(explanations(tenant)) >= 3, what="some claims are explained", every=0.05)
    leader.kill()
    killed = time.monotonic()
    tenant.apply(*waiting_pods(10, 10))
    eventually(lambda: other.leads, what="the other leads", every=0.1)
    assert time.monotonic() - killed < TAKE_OVER_SECONDS
    eventually(lambda: len(explanations(tenant)) == 20, what="all claims are explained")
    assert set(explanations(tenant).values()) == {1}
    leader.start()


def test_what_was_deleted_while_a_replica_and_the_api_server_were_away_is_known_to_be_gone(
    pair: list[Replica], tenant: Tenant
) -> None:
    _, other = roles(pair)
    tenant.apply(*(template(f"kept-{index}", MORE_THAN_A_NODE_HAS) for index in range(3)))
    wait_templates(other, 3)
    record = other.running
    assert record is not None
    os.kill(record.pid, signal.SIGSTOP)
    try:
        tenant.stack.cluster.restart("kube-apiserver")
        for index in range(2):
            tenant.delete("resourceclaimtemplate", f"kept-{index}")
    except NotSupported:
        pytest.skip("the API server of an existing cluster is not ours to restart")
    finally:
        os.kill(record.pid, signal.SIGCONT)
    wait_templates(other, 1)
    assert (figure(other, "vgpu_controller_listings_total", kind="templates") or 0) > 1
    assert figure(other, "vgpu_controller_watch_failures_total") == 0


def test_after_an_outage_of_the_api_server_one_leads_and_both_see_what_changes(
    pair: list[Replica], tenant: Tenant
) -> None:
    eventually(lambda: any(one.leads for one in pair), what="one leads")
    before = [figure(one, "vgpu_controller_objects", kind="templates") or 0 for one in pair]
    tenant.apply(template("new", MORE_THAN_A_NODE_HAS))
    for replica, known in zip(pair, before, strict=True):
        wait_templates(replica, known + 1)
        assert is_ready(replica)


def test_a_replica_cannot_write_more_than_its_rights_allow(pair: list[Replica], stack: Stack) -> None:
    mine = stack.places.processes.kubeconfig(pair[0].name)
    with pytest.raises(CommandFailed, match="forbidden"):
        stack.cluster.kubectl("get", "secrets", "--all-namespaces", kubeconfig=mine)
    with pytest.raises(CommandFailed, match="forbidden"):
        stack.cluster.kubectl("delete", "node", stack.cluster.node_name, "--dry-run=server", kubeconfig=mine)
