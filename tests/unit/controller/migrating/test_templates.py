"""Templates come with the first pod that names them and go after the last, whatever happens in between."""

from __future__ import annotations

import copy
import json
import time

import pytest

from dra_driver.controller.observing import Change, Kind
from dra_driver.errors import HamiDraError
from dra_driver.kube.errors import Conflict, Forbidden, KubeError
from dra_driver.migration.markers import FROM, TEMPLATES
from tests.unit.controller.migrating.cluster import OURS, Cluster, migrated_pod, somebodys, template_of


async def test_a_template_is_made_for_the_first_pod_that_names_it() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
    (made,) = cluster.templates.values()
    assert made["metadata"]["labels"] == OURS
    assert made["spec"]["spec"] == json.loads(pod["metadata"]["annotations"][TEMPLATES])[template_of(pod)]
    assert (made["apiVersion"], made["kind"]) == ("resource.k8s.io/v1", "ResourceClaimTemplate")


async def test_pods_that_ask_for_the_same_share_it_and_the_last_takes_it_along() -> None:
    cluster, one, other = Cluster(), migrated_pod("a"), migrated_pod("b")
    async with cluster.acting():
        for wire in (one, other):
            cluster.show(wire)
        await cluster.until(template_of(one))
        cluster.show(one, Change.DELETED)
        cluster.show(other, Change.MODIFIED)
        assert list(cluster.templates) == [("team", template_of(one))]
        cluster.show(other, Change.DELETED)
        await cluster.until()
    assert cluster.calls == ["create", "delete"]
    assert (cluster.counted("created"), cluster.counted("removed")) == (1, 1)


async def test_namespaces_share_nothing() -> None:
    cluster = Cluster()
    async with cluster.acting():
        cluster.show(migrated_pod("a", namespace="one"))
        cluster.show(migrated_pod("b", namespace="two"))
        await cluster.called("create", "create")
    assert {namespace for namespace, _ in cluster.templates} == {"one", "two"}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_a_pod_that_has_ended_needs_none(phase: str) -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        cluster.show(migrated_pod("a", phase=phase), Change.MODIFIED)
        await cluster.until()


async def test_a_pod_that_is_being_deleted_needs_none() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        leaving = copy.deepcopy(pod)
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        cluster.show(leaving, Change.MODIFIED)
        await cluster.until()


async def test_a_template_stays_for_a_while_after_its_last_pod() -> None:
    cluster, pod = Cluster(grace_seconds=0.2), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        begun = time.monotonic()
        cluster.show(pod, Change.DELETED)
        await cluster.until()
        assert time.monotonic() - begun >= 0.2


async def test_a_pod_that_comes_within_the_grace_period_finds_its_template() -> None:
    cluster, pod = Cluster(grace_seconds=60), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        cluster.show(pod, Change.DELETED)
        cluster.show(migrated_pod("b"))
        cluster.show(migrated_pod("c", mebibytes=1))
        await cluster.called("create", "create")


async def test_a_template_that_goes_while_a_pod_comes_is_made_again() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        cluster.may_delete.clear()
        cluster.show(pod, Change.DELETED)
        await cluster.deleting.wait()
        cluster.show(migrated_pod("b"))
        cluster.may_delete.set()
        await cluster.called("create", "delete", "create")
        await cluster.until(template_of(pod))


async def test_a_template_that_somebody_removes_is_made_again() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        cluster.take("team", template_of(pod))
        await cluster.called("create", "create")


async def test_a_watch_that_lags_does_not_make_a_template_twice() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    cluster.lagging = True
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        cluster.show(migrated_pod("b"))
        cluster.show(migrated_pod("c", mebibytes=1))
        await cluster.called("create", "create")


async def test_the_late_news_of_an_old_template_do_not_hide_the_new_one() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
        old = copy.deepcopy(cluster.templates[("team", template_of(pod))])
        cluster.take("team", template_of(pod))
        await cluster.called("create", "create")
        cluster.observer.saw(Kind.TEMPLATES, Change.DELETED, old)
        cluster.show(migrated_pod("c", mebibytes=1))
        await cluster.called("create", "create", "create")


async def test_nothing_is_written_while_another_replica_acts_and_all_of_it_afterwards() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    unused = template_of(migrated_pod("x", mebibytes=7))
    cluster.put(somebodys(unused, labels=OURS))
    cluster.show(pod)
    assert cluster.calls == []
    async with cluster.acting():
        await cluster.until(template_of(pod))
    cluster.show(pod, Change.DELETED)
    assert list(cluster.templates) == [("team", template_of(pod))]
    async with cluster.acting():
        await cluster.until()


async def test_templates_of_others_are_left_alone() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    spec = json.loads(pod["metadata"]["annotations"][TEMPLATES])[template_of(pod)]
    cluster.put(somebodys(template_of(pod), spec=spec))
    async with cluster.acting():
        cluster.show(pod)
        await cluster.called("create", "get")
        cluster.show(pod, Change.DELETED)
        cluster.show(migrated_pod("b", mebibytes=1))
        await cluster.called("create", "get", "create")
    assert ("team", template_of(pod)) in cluster.templates


@pytest.mark.parametrize(
    "failure", [Conflict("POST", 409, "try again"), KubeError("POST", 0, "no answer"), Forbidden("POST", 403, "no")]
)
async def test_an_attempt_that_fails_is_repeated(failure: HamiDraError) -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    cluster.failures.append(failure)
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))


async def test_a_pod_is_told_once_why_its_template_was_refused() -> None:
    cluster, pod = Cluster(), migrated_pod("a")
    cluster.failures += [Forbidden("POST", 403, "quota exceeded"), Forbidden("POST", 403, "quota exceeded")]
    async with cluster.acting():
        cluster.show(pod)
        await cluster.until(template_of(pod))
    (event,) = cluster.events.written
    assert (event.regarding.name, event.reason, event.warning) == ("a", "ClaimTemplateRefused", True)
    assert "quota exceeded" in event.note
    assert cluster.counted("failed") == 2


async def test_a_pod_whose_annotation_was_tampered_with_gets_nothing_and_disturbs_nobody() -> None:
    cluster, good, bad = Cluster(), migrated_pod("a"), migrated_pod("b", mebibytes=7)
    bad["metadata"]["annotations"][TEMPLATES] = bad["metadata"]["annotations"][TEMPLATES].replace("7Mi", "9Mi")
    unmarked = migrated_pod("c", mebibytes=8)
    del unmarked["metadata"]["labels"][FROM]
    unnamed = migrated_pod("d", mebibytes=9)
    unnamed["spec"]["resourceClaims"] = []
    async with cluster.acting():
        for wire in (bad, unmarked, unnamed, {"metadata": {"uid": "x"}}, good):
            cluster.show(wire)
        await cluster.until(template_of(good))
    assert cluster.calls == ["create"]


async def test_five_hundred_pods_leave_nothing() -> None:
    cluster = Cluster()
    pods = [migrated_pod(f"p-{number}", mebibytes=1 + number % 50) for number in range(500)]
    async with cluster.acting():
        for wire in pods:
            cluster.show(wire)
        await cluster.until(*{template_of(wire) for wire in pods})
        for wire in pods:
            cluster.show(wire, Change.DELETED)
        await cluster.until()
    assert (cluster.counted("created"), cluster.counted("removed"), cluster.counted("failed")) == (50, 50, 0)
    assert cluster.registry.get_sample_value("vgpu_controller_templates") == 0
