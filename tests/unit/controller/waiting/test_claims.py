"""What a waiting claim is told, when, and when nothing is."""

from __future__ import annotations

from typing import Any

import pytest

from dra_driver.controller.observing import Change
from dra_driver.controller.waiting.answers import Answer, Answers
from dra_driver.controller.waiting.news import ANNOTATION
from dra_driver.explain.admission import Placing
from dra_driver.explain.objects import Claim
from dra_driver.explain.suggesting import Suggestion
from dra_driver.kube.errors import Conflict, Forbidden, KubeError
from tests.unit.controller.waiting.scene import Scene, acting, allocated, pod, waiting_with_pod
from tests.unit.explain.situations import DRIVER, Wire, card, holding, pool


def told_of(scene: Scene, name: str) -> list[Wire]:
    """The events on the claim of that name."""
    return [
        event
        for event in scene.notes.events
        if (event["regarding"]["kind"], event["regarding"]["name"]) == ("ResourceClaim", name)
    ]


async def test_a_claim_that_no_card_takes_says_so_by_events_and_a_record(scene: Scene) -> None:
    scene.show(*waiting_with_pod("train", "17Gi"))
    await scene.notes.until_patched(1)
    (record,) = scene.notes.records
    assert record is not None
    assert (record["verdict"], record["number"], record["since"]) == ("DoesNotFit", 1, "2026-01-01T00:00:00Z")
    assert [reason["code"] for reason in record["reasons"]] == ["CapacityTooSmall"]
    assert record["funnel"] == [{"request": "slice", "lookedAt": 1, "refused": {"CapacityTooSmall": 1}, "fitting": 0}]
    regarding = [(event["regarding"]["kind"], event["related"]["kind"]) for event in scene.notes.events]
    assert regarding == [("ResourceClaim", "Pod"), ("Pod", "ResourceClaim")]
    assert all(event["reason"] == "CapacityTooSmall" and event["type"] == "Warning" for event in scene.notes.events)


async def test_the_record_is_written_only_on_the_claim_as_it_was_seen(scene: Scene) -> None:
    scene.show(*waiting_with_pod("train", "17Gi"))
    await scene.notes.until_patched(1)
    metadata = scene.notes.patches[0]["metadata"]
    assert (metadata["uid"], metadata["resourceVersion"]) == ("uid-train", "3")


async def test_a_claim_that_is_allocated_soon_is_told_nothing(scene: Scene) -> None:
    claim, its_pod = waiting_with_pod("train", "17Gi")
    scene.show(claim, its_pod)
    scene.show(allocated(claim, "16Gi"), change=Change.MODIFIED)
    await scene.settled()
    assert not told_of(scene, "train")


async def test_a_claim_that_no_pod_waits_for_is_told_nothing(scene: Scene) -> None:
    scene.show(waiting_with_pod("train", "17Gi")[0])
    await scene.settled()
    assert not told_of(scene, "train")


async def test_a_claim_of_another_drivers_class_is_told_nothing(scene: Scene) -> None:
    other = {"selectors": [{"cel": {"expression": 'device.driver == "gpu.example.com"'}}]}
    scene.show({"kind": "DeviceClass", "metadata": {"name": "other"}, "spec": other})
    scene.show(*waiting_with_pod("train", "17Gi", "other"), *waiting_with_pod("second", "17Gi", "missing.example.com"))
    await scene.settled()
    assert {event["regarding"]["name"] for event in scene.notes.events} == {"last"}


async def test_a_claim_that_says_it_already_is_told_nothing_after_a_restart(scene: Scene) -> None:
    claim, its_pod = waiting_with_pod("train", "17Gi")
    scene.show(claim, its_pod)
    await scene.notes.until_patched(1)
    text = scene.notes.patches[0]["metadata"]["annotations"][ANNOTATION]
    marked = {**claim, "metadata": {**claim["metadata"], "annotations": {ANNOTATION: text}}}
    async with acting(Scene()) as restarted:
        restarted.show(marked, its_pod, change=Change.LISTED)
        await restarted.settled()
        assert not told_of(restarted, "train")


async def test_figures_that_change_are_no_news_and_another_reason_is(scene: Scene) -> None:
    scene.show(holding("team-b/one", "gpu-0", memory="8Gi"), *waiting_with_pod("train", "10Gi"))
    await scene.notes.until_patched(1)
    scene.show(holding("team-b/one", "gpu-0", memory="9Gi"), change=Change.MODIFIED)
    await scene.settled()
    assert len(told_of(scene, "train")) == 1
    done = len(scene.notes.patches)
    scene.show(pool("node-a", card("gpu-0", memory="8Gi")), change=Change.MODIFIED)
    await scene.notes.until_patched(done + 1)
    assert [event["reason"] for event in told_of(scene, "train")] == ["CapacityShort", "CapacityTooSmall"]
    numbers = [record["number"] for record in scene.notes.records if record and record["reasons"][0]["code"]]
    assert max(numbers) == 2


async def test_the_end_of_a_wait_is_marked_and_the_record_taken_away(scene: Scene) -> None:
    claim, its_pod = waiting_with_pod("train", "17Gi")
    scene.show(claim, its_pod)
    await scene.notes.until_patched(1)
    scene.show(allocated(claim, "16Gi"), change=Change.MODIFIED)
    text = scene.notes.patches[0]["metadata"]["annotations"][ANNOTATION]
    with_record = {**claim, "metadata": {**claim["metadata"], "annotations": {ANNOTATION: text}}}
    scene.show(allocated(with_record, "16Gi"), change=Change.MODIFIED)
    await scene.notes.until_patched(2)
    assert scene.notes.records[1] is None
    ended = told_of(scene, "train")[-1]
    assert (ended["reason"], ended["type"]) == ("WaitEnded", "Normal")
    assert "CapacityTooSmall" in ended["note"]


async def test_a_pod_that_gives_up_ends_the_wait(scene: Scene) -> None:
    claim, its_pod = waiting_with_pod("train", "17Gi")
    scene.show(claim, its_pod)
    await scene.notes.until_patched(1)
    scene.show(its_pod, change=Change.DELETED)
    await scene.notes.until_patched(2)
    assert "no pod waits for it any more" in told_of(scene, "train")[-1]["note"]


async def test_a_claim_that_the_node_cannot_prepare_carries_its_reason(scene: Scene) -> None:
    claim, _ = waiting_with_pod("train", "8Gi")
    wire = allocated(claim, "8Gi")
    condition = {"type": "Ready", "status": "False", "reason": "NoRoom", "message": "the card is full"}
    device = {"driver": DRIVER, "pool": "node-a-nvidia", "device": "gpu-0", "conditions": [condition]}
    scene.show({**wire, "status": {**wire["status"], "devices": [device]}})
    await scene.notes.until_patched(1)
    (record,) = scene.notes.records
    assert record is not None
    assert record["verdict"] == "NotPrepared"
    assert record["reasons"][0]["parameters"] == {"reason": "NoRoom", "device": "gpu-0"}
    assert "the card is full" in told_of(scene, "train")[0]["note"]


async def test_a_claim_that_fits_waits_for_something_else_once_the_scheduler_has_refused_its_pod(scene: Scene) -> None:
    claim, its_pod = waiting_with_pod("train", "8Gi")
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    scene.show(claim, {**its_pod, "status": {"conditions": [refused]}})
    await scene.notes.until_patched(1)
    (record,) = scene.notes.records
    assert record is not None
    assert (record["verdict"], record["reasons"][0]["code"]) == ("Fits", "NotScheduled")
    assert record["observed"]["message"] == "Insufficient cpu"


async def test_nodes_that_the_pod_cannot_be_on_do_not_count(scene: Scene) -> None:
    scene.show(waiting_with_pod("train", "8Gi")[0], pod("train", nodeSelector={"zone": "z1"}))
    await scene.notes.until_patched(1)
    (record,) = scene.notes.records
    assert record is not None
    assert [reason["code"] for reason in record["reasons"]] == ["NodeExcluded"]


@pytest.mark.parametrize("error", [Conflict("PATCH", 409, "changed"), KubeError("PATCH", 500, "try again")])
async def test_what_could_not_be_written_is_written_later(scene: Scene, error: KubeError) -> None:
    failures: list[Any] = [error]
    scene.notes.fail = lambda path: failures.pop() if failures and "resourceclaims" in path else None
    scene.show(*waiting_with_pod("train", "17Gi"))
    await scene.notes.until_patched(1)
    names = [event["metadata"]["name"] for event in told_of(scene, "train")]
    assert len(names) == 2
    assert len(set(names)) == 1, "the same event, which the API server takes once"


async def test_a_namespace_that_goes_away_is_left_alone(scene: Scene) -> None:
    failed: list[str] = []

    def fail(path: str) -> KubeError | None:
        if "/team-a/" in path and "events" in path and len(failed) < 1:
            failed.append(path)
            return Forbidden(
                "POST", 403, "unable to create new content in namespace team-a because it is being terminated"
            )
        return None

    scene.notes.fail = fail
    scene.show(*waiting_with_pod("train", "17Gi"))
    await scene.settled()
    assert not told_of(scene, "train")


async def test_an_object_that_cannot_be_understood_disturbs_nothing(scene: Scene) -> None:
    bad = pool("node-b", card("gpu-0"))
    bad["spec"]["devices"][0]["capacity"]["memory"]["value"] = "much"
    scene.show(bad)
    scene.show(*waiting_with_pod("train", "17Gi"))
    await scene.notes.until_patched(1)
    assert told_of(scene, "train")


async def test_no_event_names_another_tenants_claim(scene: Scene) -> None:
    scene.show(holding("team-b/secret", "gpu-0", memory="8Gi"), *waiting_with_pod("train", "10Gi"))
    await scene.notes.until_patched(1)
    assert "secret" not in str(scene.notes.events) + str(scene.notes.patches)


async def test_a_claim_that_cannot_be_explained_keeps_no_other_from_being_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain = Answers.explain

    async def fail(self: Answers, kind: str, claim: Claim, placing: Placing) -> Answer:
        if claim.metadata.name == "train":
            raise RuntimeError("no idea")
        return await explain(self, kind, claim, placing)

    monkeypatch.setattr(Answers, "explain", fail)
    scene.show(*waiting_with_pod("train", "17Gi"), *waiting_with_pod("other", "18Gi"))
    await scene.settled()
    assert told_of(scene, "other")
    assert not told_of(scene, "train")


async def test_a_claim_that_is_allocated_while_it_is_explained_is_told_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, its_pod = waiting_with_pod("train", "17Gi")
    suggestions = Answers.suggestions

    async def late(self: Answers, answer: Answer) -> tuple[Suggestion, ...]:
        if answer.claim.metadata.name == "train":
            scene.show(allocated(claim, "16Gi"), change=Change.MODIFIED)
        return await suggestions(self, answer)

    monkeypatch.setattr(Answers, "suggestions", late)
    scene.show(claim, its_pod)
    await scene.settled()
    assert not told_of(scene, "train")
