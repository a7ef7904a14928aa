"""`kubectl vgpu convert`: files in, native manifests out; and nothing out where something cannot be mapped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dra_driver.kubectl.__main__ import main
from tests.unit.migration.pods_for_hami import container, pod
from tests.unit.migration.test_card_sizes import pool

Wire = dict[str, Any]
Run = Callable[..., tuple[int, list[Wire], str]]
POD = pod(container(nvidia_gpu=1, nvidia_gpumem=3000))
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": POD["spec"]}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Convert these objects; returns exit code, objects and errors."""

    def _run(*objects: Wire, flags: tuple[str, ...] = ()) -> tuple[int, list[Wire], str]:
        file = tmp_path / "old.yaml"
        file.write_text(yaml.safe_dump_all(objects))
        code = main(["convert", "-f", str(file), *flags])
        output = capsys.readouterr()
        return code, [wire for wire in yaml.safe_load_all(output.out) if wire], output.err

    return _run


def workload(kind: str, spec: Wire) -> Wire:
    return {"kind": kind, "metadata": {"name": "train", "namespace": "team"}, "spec": spec}


WORKLOADS = [
    workload("Deployment", {"template": TEMPLATE}),
    workload("StatefulSet", {"template": TEMPLATE}),
    workload("DaemonSet", {"template": TEMPLATE}),
    workload("ReplicaSet", {"template": TEMPLATE}),
    workload("Job", {"template": TEMPLATE}),
    workload("CronJob", {"jobTemplate": {"spec": {"template": TEMPLATE}}}),
    workload("Job", {"tasks": [{"name": "worker", "template": TEMPLATE}]}),
    workload("PyTorchJob", {"pytorchReplicaSpecs": {"Worker": {"replicas": 2, "template": TEMPLATE}}}),
    workload("RayCluster", {"workerGroupSpecs": [{"template": TEMPLATE}]}),
    workload("LeaderWorkerSet", {"leaderWorkerTemplate": {"workerTemplate": TEMPLATE}}),
    {"kind": "PodTemplate", "metadata": {"name": "train", "namespace": "team"}, "template": TEMPLATE},
    {**POD, "metadata": {"name": "train", "namespace": "team"}},
]


@pytest.mark.parametrize("old", WORKLOADS, ids=lambda wire: wire["kind"])
def test_every_workload_is_mapped_and_its_template_comes_first(run: Run, old: Wire) -> None:
    code, (template, new), _ = run(old)
    assert code == 0
    assert (template["kind"], template["metadata"]) == (
        "ResourceClaimTemplate",
        {"name": "train-main", "namespace": "team"},
    )
    assert (new["kind"], new["metadata"]) == (old["kind"], old["metadata"])
    text = json.dumps(new)
    assert "nvidia.com" not in text
    assert '"resourceClaimTemplateName": "train-main"' in text
    assert "vgpu.hami.io/migrated-from" not in text


def test_all_else_comes_out_as_it_went_in(run: Run) -> None:
    plain = workload("Deployment", {"template": {"spec": {"containers": [{"name": "main", "image": "web"}]}}})
    assert run(SERVICE, plain) == (0, [SERVICE, plain], "")


def test_what_only_hami_reads_is_gone(run: Run) -> None:
    annotations = {
        "nvidia.com/use-gputype": "A100",
        "hami.io/gpu-scheduler-policy": "spread",
        "example.com/own": "stays",
    }
    old = {**POD, "metadata": {"name": "train", "annotations": annotations}}
    old["spec"] = {**old["spec"], "schedulerName": "hami-scheduler"}
    code, (_, new), errors = run(old)
    assert code == 0
    assert new["metadata"]["annotations"] == {"example.com/own": "stays"}
    assert "schedulerName" not in new["spec"]
    assert "warning: " in errors
    assert "Pod train: metadata.annotations[hami.io/gpu-scheduler-policy]: 'spread' has no effect" in errors


def test_containers_that_ask_for_the_same_share_a_template_and_others_have_names_of_their_own(run: Run) -> None:
    tasks = [
        {"template": {"spec": {"containers": [container("main", nvidia_gpumem=size)]}}} for size in (100, 100, 200)
    ]
    _, objects, _ = run(workload("Job", {"tasks": tasks}))
    assert [wire["metadata"]["name"] for wire in objects[:-1]] == ["train-main", "train-main-2"]
    named = [task["template"]["spec"]["resourceClaims"][0] for task in objects[-1]["spec"]["tasks"]]
    assert [claim["resourceClaimTemplateName"] for claim in named] == ["train-main", "train-main", "train-main-2"]


def test_folders_lists_and_several_files_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "manifests"
    (folder / "below").mkdir(parents=True)
    (folder / "a.yaml").write_text(yaml.safe_dump({"kind": "List", "items": [POD, SERVICE]}))
    (folder / "b.json").write_text(json.dumps({**SERVICE, "metadata": {"name": "json"}}))
    (folder / "notes.txt").write_text("not a manifest")
    (folder / "below" / "c.yaml").write_text("not: read")
    other = tmp_path / "other.yml"
    other.write_text(yaml.safe_dump_all([None, {**SERVICE, "metadata": {"name": "other"}}]))
    assert main(["convert", "-f", str(folder), "-f", str(other), "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(wire["kind"], wire["metadata"]["name"]) for wire in listed["items"]] == [
        *(("ResourceClaimTemplate", "train-main"), ("Pod", "train")),
        *(("Service", "web"), ("Service", "json"), ("Service", "other")),
    ]


def test_one_that_cannot_be_mapped_leaves_nothing_on_the_output_and_all_reasons_on_the_other(run: Run) -> None:
    bad = {**pod(container(nvidia_gpu="x")), "metadata": {"name": "bad"}}
    worse = workload("Deployment", {"template": pod(container(nvidia_gpu=1), nodeName="node-a")})
    code, objects, errors = run(POD, bad, worse)
    assert (code, objects) == (1, [])
    first, second = errors.splitlines()
    assert first.endswith(
        "Pod bad: spec.containers[0].resources.limits[nvidia.com/gpu]: 'x' is not a quantity (such as 4Gi, 500M or 30)"
    )
    assert "Deployment team/train: spec.template.spec.nodeName: " in second


def test_percentages_are_of_the_sizes_that_are_given_or_published(run: Run, tmp_path: Path) -> None:
    old = pod(container(nvidia_gpumem_percentage=50))
    saved = tmp_path / "objects.yaml"
    saved.write_text(
        yaml.safe_dump({"kind": "List", "items": [{"kind": "ResourceSlice", **pool("a", "16Gi", "80Gi")}]})
    )
    for flags in (("--card-memory", "16Gi,80Gi"), ("--from", str(saved))):
        code, (template, _), _ = run(old, flags=flags)
        assert code == 0
        (request,) = template["spec"]["spec"]["devices"]["requests"]
        amounts = [way["capacity"]["requests"]["memory"] for way in request["firstAvailable"]]
        assert amounts == ["8Gi", "40Gi"]


def test_sizes_are_asked_for_only_where_they_matter(run: Run) -> None:
    assert run(POD, flags=("--kubeconfig", "/nowhere"))[0] == 0
    code, _, errors = run(pod(container(nvidia_gpumem_percentage=50)), flags=("--kubeconfig", "/nowhere"))
    assert (code, "kubeconfig /nowhere" in errors) == (1, True)


def test_names_of_an_installation_are_read_from_hamis_configuration(run: Run, tmp_path: Path) -> None:
    (tmp_path / "device-config.yaml").write_text("nvidia: {resourceCountName: example.com/vgpu}")
    old = pod(container(**{"example.com/vgpu": 1}))
    assert run(old) == (0, [old], "")
    code, objects, _ = run(old, flags=("--device-config", str(tmp_path / "device-config.yaml")))
    assert (code, len(objects)) == (0, 2)


def test_a_pod_of_a_vendor_that_nobody_serves_stays_with_a_warning(run: Run) -> None:
    old = pod(container(**{"cambricon.com/vmlu": 1}))
    code, objects, errors = run(old)
    assert (code, objects) == (0, [old])
    assert "cambricon.com/vmlu: no backend serves it here; left as it is" in errors


@pytest.mark.parametrize(
    ("content", "problem"), [("a: [", "old.yaml: "), ("- 1", "no Kubernetes object"), ("", "no object in it")]
)
def test_what_is_no_manifest_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    (tmp_path / "old.yaml").write_text(content)
    assert main(["convert", "-f", str(tmp_path / "old.yaml")]) == 1
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"containers": "many"}, "spec.containers"),
        ({"containers": [1]}, "spec.containers[0]"),
        ({"containers": [{"image": "x"}]}, "spec.containers[0].name"),
        ({"containers": [{"name": "main", "resources": {"limits": ["nvidia.com/gpu"]}}]}, "resources.limits"),
        ({"containers": [], "initContainers": {"name": "init"}}, "spec.initContainers"),
    ],
)
def test_a_pod_that_has_not_the_form_of_one_is_refused_with_the_field(run: Run, spec: Wire, path: str) -> None:
    code, objects, errors = run({"kind": "Pod", "metadata": {"name": "train"}, "spec": spec})
    assert (code, objects) == (1, [])
    assert f"Pod train: {path}" in errors or f".{path}: " in errors


def test_fields_that_are_empty_are_no_error(run: Run) -> None:
    empty = {"name": "main", "resources": {"limits": None}, "env": None}
    old = {"kind": "Pod", "metadata": None, "spec": {"containers": [empty], "initContainers": None}}
    assert run(old)[0] == 0


def test_sizes_that_are_none_are_refused(run: Run) -> None:
    code, _, errors = run(pod(container(nvidia_gpumem_percentage=50)), flags=("--card-memory", "large"))
    assert (code, errors.startswith("error: --card-memory: 'large' is not a quantity")) == (1, True)
