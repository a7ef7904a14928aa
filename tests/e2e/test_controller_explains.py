"""Every reason of waiting provoked once: the claim says so, what helps is done, and the scheduler agrees.

All situations are made at once and run through the same steps; the tests look at what was seen after each.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from dra_driver.controller.waiting.news import ANNOTATION
from dra_driver.controller.waiting.telling import ENDED
from dra_driver.explain.reasons import Code
from tests.e2e.tenant import Tenant
from tests.e2e.waiting_cases import CASES, LABEL, Case, claim_and_pod, node
from tests.stack.controller import Replica, replicas
from tests.stack.plugin import DRIVER
from tests.stack.stack import Stack
from tests.unit.explain.situations import card, exactly, pool
from tests.waiting import eventually

Wire = dict[str, Any]
BUSY = "case-busy"
BROKEN = "case-broken"
OF_ITSELF = [case for case in CASES if case.code in (Code.NODE_EXCLUDED, Code.IN_USE, Code.CLASS_MISSING)]


@dataclass
class Course:
    """What was seen: records while all waited, pods' nodes after the cure, claims and events at the end."""

    records: dict[str, Wire] = field(default_factory=dict)
    told: list[Wire] = field(default_factory=list)
    placed: dict[str, str] = field(default_factory=dict)
    claims: dict[str, Wire] = field(default_factory=dict)
    ended: list[Wire] = field(default_factory=list)
    after_restart: list[Wire] = field(default_factory=list)


@pytest.fixture(scope="module")
def controller(stack: Stack) -> Iterator[Replica]:
    """One replica of the controller."""
    (replica,) = replicas(stack, 1)
    replica.start()
    yield replica
    replica.uninstall()


@pytest.fixture(scope="module")
def course(stack: Stack, controller: Replica) -> Iterator[Course]:
    """All situations, from before they begin to after the controller was started anew."""
    tenant = Tenant(stack, f"e2e-{uuid.uuid4().hex[:8]}")
    tenant.create()
    seen = Course()
    try:
        _begin(tenant)
        seen.records = eventually(
            lambda: _all_told(tenant), what=f"all claims say why they wait\n{controller.log[-3000:]}"
        )
        seen.told = _events(tenant)
        _cure(tenant, seen.records)
        seen.placed = eventually(lambda: _all_placed(tenant), what="all pods are placed")
        eventually(lambda: _all_ended(tenant), what="the ends of the waits are marked")
        seen.claims, seen.ended = _claims(tenant), _events(tenant)
        controller.kill()
        controller.start()
        tenant.apply(*claim_and_pod("case-last", CASES[0].node, [exactly(capacity={"memory": "64Gi"})]))
        eventually(lambda: ANNOTATION in _annotations(_claims(tenant)["case-last"]), what="it works after the restart")
        seen.after_restart = _events(tenant)
        yield seen
    finally:
        _remove(tenant)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.code))
def test_a_claim_says_why_it_waits(course: Course, case: Case) -> None:
    record = course.records[case.node]
    assert [reason["code"] for reason in record["reasons"]] == [case.code]
    regarding = {event["regarding"]["kind"] for event in course.told if _is_of(event, case.node, str(case.code))}
    assert regarding == {"ResourceClaim", "Pod"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.code))
def test_it_is_scheduled_when_what_helps_is_done(course: Course, case: Case) -> None:
    assert course.placed.get(f"{case.node}-cured", course.placed.get(case.node)) == case.node


@pytest.mark.parametrize("case", OF_ITSELF, ids=lambda case: str(case.code))
def test_the_end_of_a_wait_is_marked_and_the_record_goes(course: Course, case: Case) -> None:
    assert ANNOTATION not in _annotations(course.claims[case.node])
    ended = [event for event in course.ended if _is_of(event, case.node, ENDED)]
    assert {event["regarding"]["kind"] for event in ended} == {"ResourceClaim", "Pod"}
    assert all(str(case.code) in event["note"] for event in ended)


def test_what_the_scheduler_said_is_told_apart(course: Course) -> None:
    observed = course.records[f"case-{Code.CAPACITY_SHORT.lower()}"]["observed"]
    assert observed["reason"] == "Unschedulable"
    assert "nodes are available" in observed["message"]


def test_a_pod_that_waits_for_something_else_than_cards_is_told_so(course: Course) -> None:
    record = course.records[BUSY]
    assert (record["verdict"], record["reasons"][0]["code"]) == ("Fits", "NotScheduled")
    assert "cpu" in record["observed"]["message"]


def test_a_claim_that_the_node_cannot_prepare_carries_the_nodes_reason(course: Course) -> None:
    record = course.records[BROKEN]
    assert record["verdict"] == "NotPrepared"
    (reason,) = record["reasons"]
    assert reason["code"] == "NotPrepared"
    assert "nonsense" in reason["words"]


def test_nothing_that_a_tenant_reads_names_another_claim(course: Course) -> None:
    for name, record in course.records.items():
        text = json.dumps(record)
        assert "-held-" not in text, name
    assert not any("-held-" in event["note"] for event in course.told if "-held-" not in event["regarding"]["name"])


def test_no_event_is_told_twice_nor_again_after_a_restart(course: Course) -> None:
    keys = Counter((event["regarding"]["uid"], event["reason"]) for event in course.after_restart)
    assert max(keys.values()) == 1
    new = {event["metadata"]["name"] for event in course.after_restart} - {
        event["metadata"]["name"] for event in course.ended
    }
    assert all(name.startswith("case-last") for name in new), new


def _begin(tenant: Tenant) -> None:
    facts = [wire for case in CASES for wire in case.facts()]
    facts += [node(BUSY), {"apiVersion": "resource.k8s.io/v1", **pool(BUSY, card("gpu-0"))}]
    tenant.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(facts))
    held = [(f"{case.node}-held-{n}", case.node, ask) for case in CASES for n, ask in enumerate(case.held)]
    tenant.apply(*(wire for name, on, ask in held for wire in claim_and_pod(name, on, [ask])))
    eventually(lambda: set(_placed(tenant)) >= {name for name, _, _ in held}, what="what is held is placed")
    asked = [claim_and_pod(case.node, case.node, case.asked, case.constraints, case.selector) for case in CASES]
    tenant.apply(*(wire for wires in asked for wire in wires), *_busy(), *_broken(tenant.stack.cluster.node_name))


def _busy() -> list[Wire]:
    claim, pod = claim_and_pod(BUSY, BUSY, [exactly(capacity={"memory": "1Gi"})])
    pod["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "64"}
    return [claim, pod]


def _broken(on: str) -> list[Wire]:
    claim, pod = claim_and_pod(BROKEN, on, [exactly(capacity={"memory": "1Gi"})])
    parameters = {"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "VgpuConfig", "nonsense": True}
    claim["spec"]["devices"]["config"] = [{"opaque": {"driver": DRIVER, "parameters": parameters}}]
    pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": on}
    return [claim, pod]


def _cure(tenant: Tenant, records: dict[str, Wire]) -> None:
    objects = []
    for case in CASES:
        objects += case.cured(case.node) if case.cured else _follow(tenant, case, records[case.node]["suggestions"])
    replaced = [
        name.removesuffix("-cured") for wire in objects if (name := wire["metadata"]["name"]).endswith("-cured")
    ]
    tenant.kubectl("delete", "pods,resourceclaims", *sorted(set(replaced)), "--wait=false")
    tenant.apply(*objects)


def _follow(tenant: Tenant, case: Case, suggestions: list[Wire]) -> list[Wire]:
    """Do what is suggested first: release what is held, or ask for something else."""
    way = suggestions[0]
    if way["change"] == "Release":
        held = [f"{case.node}-held-{number}" for number in range(len(case.held))]
        tenant.kubectl("delete", "pods,resourceclaims", *held, "--wait=false")
        return []
    asked = json.loads(json.dumps(case.asked))
    constraints = case.constraints
    number = int(way["request"].partition("-")[2] or 1) - 1
    ask = asked[number]
    if way["change"] == "Shrink":
        ask["capacity"]["requests"].update(way["parameters"])
    elif way["change"] == "Tolerate":
        key = way["parameters"]["taint"].partition(":")[0].partition("=")[0]
        ask["tolerations"] = [{"key": key, "operator": "Exists"}]
    elif way["change"] == "FewerCards":
        ask["count"] = int(way["parameters"]["count"])
    elif way["change"] == "DropSelector":
        del ask["selectors"]
    else:
        constraints = None
    return claim_and_pod(f"{case.node}-cured", case.node, asked, constraints)


def _all_told(tenant: Tenant) -> dict[str, Wire]:
    """The records, once all that wait have one."""
    claims = _claims(tenant)
    found = {name: json.loads(text) for name, one in claims.items() if (text := _annotations(one).get(ANNOTATION))}
    wanted = {case.node for case in CASES} | {BUSY, BROKEN}
    return found if wanted <= found.keys() else {}


def _all_placed(tenant: Tenant) -> dict[str, str]:
    placed = _placed(tenant)
    done = all(case.node in placed or f"{case.node}-cured" in placed for case in CASES)
    return placed if done else {}


def _all_ended(tenant: Tenant) -> bool:
    claims = _claims(tenant)
    return not any(ANNOTATION in _annotations(claims[case.node]) for case in OF_ITSELF)


def _placed(tenant: Tenant) -> dict[str, str]:
    pods = tenant.every("pods")
    return {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}


def _claims(tenant: Tenant) -> dict[str, Wire]:
    return {claim["metadata"]["name"]: claim for claim in tenant.every("resourceclaims")}


def _annotations(claim: Wire) -> Wire:
    found: Wire = claim["metadata"].get("annotations") or {}
    return found


def _events(tenant: Tenant) -> list[Wire]:
    """All events that the controller has told."""
    found = tenant.every("events.events.k8s.io")
    return [event for event in found if event.get("reportingController") == f"{DRIVER}/controller"]


def _is_of(event: Wire, name: str, reason: str) -> bool:
    return (event["regarding"]["name"], event["reason"]) == (name, reason)


def _remove(tenant: Tenant) -> None:
    kubectl = tenant.stack.cluster.kubectl
    names = {wire["metadata"]["name"] for case in CASES for wire in case.facts() if wire["kind"] == "ResourceSlice"}
    cured = {f"01-{case.node}" for case in CASES} | {f"00-{BUSY}"}
    tenant.kubectl("delete", "pods", "--all", "--force", "--wait=true", "--timeout=60s")
    kubectl("delete", "nodes", "--selector", LABEL)
    kubectl("delete", "resourceslices", "--ignore-not-found", *sorted(names | cured))
    kubectl("delete", "deviceclass", "--ignore-not-found", f"case.{DRIVER}")
    tenant.remove()
