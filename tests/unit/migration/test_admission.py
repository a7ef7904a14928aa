"""The answer to the API server: patches that can be applied, that change nothing the second time, and tell no lies."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from dra_driver.errors import ObjectRejected
from dra_driver.migration.admission import Mutation, mutate
from dra_driver.migration.markers import FROM, RESOURCES, TEMPLATES, WARNINGS, templates_of
from tests.unit.migration.pods_for_hami import SIXTEEN, Wire, container, pod, spelled


def applied(wire: Wire, mutation: Mutation) -> Wire:
    """What the API server stores: the operations of RFC 6902 that are used, with its rules."""
    patched = copy.deepcopy(wire)
    for operation in mutation.patch:
        assert operation["op"] == "add"
        *above, last = operation["path"].lstrip("/").split("/")
        part: Any = patched
        for step in above:
            part = part[int(step)] if isinstance(part, list) else part[step]
        assert isinstance(part, dict)
        part[last] = copy.deepcopy(operation["value"])
    return patched


def mutated(wire: Wire) -> Wire:
    return applied(wire, mutate(wire, SIXTEEN, subject="Pod team/train"))


def templates(wire: Wire) -> list[str]:
    return list(templates_of(wire["metadata"], driver="vgpu.hami.io", subject="Pod team/train"))


def test_a_pod_carries_the_templates_that_it_names() -> None:
    wire = mutated(pod(container(nvidia_gpu=1, nvidia_gpumem=10), container("b", nvidia_gpumem_percentage=50)))
    named = {entry["resourceClaimTemplateName"] for entry in wire["spec"]["resourceClaims"]}
    assert set(templates(wire)) == named
    assert wire["metadata"]["labels"] == {FROM: "hami"}


def test_what_was_asked_and_what_is_doubtful_stays_on_the_pod_for_people() -> None:
    policy = {"hami.io/gpu-scheduler-policy": "spread"}
    annotations = mutated(pod(container(nvidia_gpu=1, nvidia_gpumem=10), annotations=policy))["metadata"]["annotations"]
    assert annotations["hami.io/gpu-scheduler-policy"] == "spread"
    assert json.loads(annotations[RESOURCES]) == {"main": {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "10"}}
    assert "'spread' has no effect" in annotations[WARNINGS]


def test_the_second_time_nothing_changes() -> None:
    wire = mutated(pod(container(nvidia_gpu=2, nvidia_gpumem=10), init=[container("init", nvidia_gpu=1)]))
    assert mutate(wire, SIXTEEN, subject="Pod team/train") == Mutation()


def test_a_container_that_another_webhook_added_is_mapped_in_the_next_round() -> None:
    wire = mutated(pod(container(nvidia_gpu=1, nvidia_gpumem=10)))
    (before,) = templates(wire)
    wire["spec"]["containers"].append(container("added", nvidia_gpu=1, nvidia_gpumem=20))
    wire = mutated(wire)
    assert len(templates(wire)) == 2
    assert before in templates(wire)
    assert set(json.loads(wire["metadata"]["annotations"][RESOURCES])) == {"main", "added"}


def test_the_same_shape_has_the_same_template_whatever_the_pods_are_called() -> None:
    one, other = (
        pod(container("a", nvidia_gpu=1, nvidia_gpumem=10)),
        pod(container("b", nvidia_gpu="1", nvidia_gpumem="10")),
    )
    other["metadata"]["name"] = "other"
    assert templates(mutated(one)) == templates(mutated(other))
    assert templates(mutated(one)) != templates(mutated(pod(container("a", nvidia_gpu=1, nvidia_gpumem=11))))


def test_a_pod_of_a_vendor_that_nobody_serves_is_left_alone_with_a_warning() -> None:
    mutation = mutate(pod(container(**{"cambricon.com/vmlu": 1})), SIXTEEN, subject="Pod team/train")
    assert (mutation.patch, mutation.templates) == ((), {})
    (warning,) = mutation.warnings
    assert warning.startswith("cambricon.com/vmlu: no backend serves it here")


def test_a_volcano_job_is_mapped_in_its_templates() -> None:
    task = {"spec": pod(container(nvidia_gpu=1, nvidia_gpumem=10))["spec"]}
    job: Wire = {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "train"},
        "spec": {
            "schedulerName": "volcano",
            "tasks": [
                {"name": "master", "replicas": 1, "template": {"spec": pod(container(cpu=1))["spec"]}},
                {"name": "worker", "replicas": 4, "template": task},
            ],
        },
    }
    mapped = mutated(job)
    master, worker = (task["template"] for task in mapped["spec"]["tasks"])
    assert "metadata" not in master
    assert spelled("nvidia_gpu") not in json.dumps(worker["spec"])
    assert templates(worker) == [entry["resourceClaimTemplateName"] for entry in worker["spec"]["resourceClaims"]]
    assert mapped["spec"]["schedulerName"] == "volcano"


def test_the_path_of_a_refusal_in_a_job_leads_to_the_field() -> None:
    job = {"kind": "Job", "spec": {"tasks": [{"template": pod(container(nvidia_gpu="x"))}]}}
    with pytest.raises(ObjectRejected) as refused:
        mutate(job, SIXTEEN, subject="Job team/train")
    path = "spec.tasks[0].template.spec.containers[0].resources.limits[nvidia.com/gpu]"
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda devices: devices["requests"][0]["exactly"].update(adminAccess=True), "Extra inputs"),
        (lambda devices: devices["requests"][0]["exactly"].update(tolerations=[]), "Extra inputs"),
        (lambda devices: devices["requests"][0]["exactly"].update(deviceClassName="admin.example.com"), "not a class"),
        (lambda devices: devices["requests"][0]["exactly"]["capacity"]["requests"].update(shares="1"), "Input should"),
        (lambda devices: devices["requests"][0].update(name="Not A Label"), "should match pattern"),
        (lambda devices: devices["requests"][0].pop("exactly"), "exactly one of"),
        (lambda devices: devices["requests"].clear(), "at least 1 item"),
        (lambda devices: devices["config"][0]["opaque"].update(driver="other.example.com"), "must be vgpu.hami.io"),
        (lambda devices: devices["config"][0]["opaque"]["parameters"].update(turbo=True), "unknown field"),
        (lambda devices: devices["requests"][0]["exactly"]["capacity"]["requests"].update(memory="11Mi"), "is that of"),
    ],
)
def test_templates_that_the_migration_could_not_have_written_are_refused(change: Any, problem: str) -> None:
    wire = mutated(pod(container(nvidia_gpu=1, nvidia_gpumem=10, nvidia_priority=0)))
    annotations = wire["metadata"]["annotations"]
    ((name, spec),) = json.loads(annotations[TEMPLATES]).items()
    change(spec["devices"])
    annotations[TEMPLATES] = json.dumps({name: spec})
    with pytest.raises(ObjectRejected, match=problem) as refused:
        templates(wire)
    assert refused.value.path.startswith(f"metadata.annotations[{TEMPLATES}]")


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"a": 1}', '{"a": {"devices": null}}', "[" * 100000])
def test_an_annotation_that_is_nonsense_is_refused_and_written_over_by_the_next_mapping(text: str) -> None:
    wire = mutated(pod(container(nvidia_gpu=1)))
    wire["metadata"]["annotations"][TEMPLATES] = text
    with pytest.raises(ObjectRejected):
        templates(wire)
    fresh = pod(container(nvidia_gpu=1), annotations={TEMPLATES: text, RESOURCES: text})
    fresh["metadata"]["labels"] = {FROM: "hami"}
    assert len(json.loads(mutated(fresh)["metadata"]["annotations"][RESOURCES])) >= 1


def test_a_pod_without_the_mark_carries_nothing() -> None:
    wire = mutated(pod(container(nvidia_gpu=1)))
    del wire["metadata"]["labels"]
    assert templates(wire) == []
