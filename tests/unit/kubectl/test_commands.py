"""`kubectl vgpu` on a file of saved objects: tables for people, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dra_driver.kubectl.__main__ import main
from tests.unit.explain.cases import CASES
from tests.unit.explain.situations import Wire, card, device_class, exactly, holding, pool, waiting, whole

Run = Callable[..., tuple[int, str, str]]
SICK = {"key": "vgpu.hami.io/unhealthy", "effect": "NoSchedule"}


def cluster() -> list[Wire]:
    """Two nodes: one card full, one half full and one sick; one whole card that is taken."""
    sick = card("gpu-1", taints=[SICK])
    pod = {
        "kind": "Pod",
        "metadata": {"namespace": "team-a", "name": "trainer"},
        "spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "train"}]},
        "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "train"}]},
    }
    return [
        device_class(),
        {"kind": "Node", "metadata": {"name": "node-a"}},
        {"kind": "Node", "metadata": {"name": "node-b"}},
        pool("node-a", card("gpu-0"), sick),
        pool("node-b", whole("gpu-0")),
        holding("team-b/big", "gpu-0", memory="12Gi", cores="60"),
        holding("team-b/all", "gpu-0", node="node-b"),
        waiting(exactly(capacity={"memory": "8Gi"})),
        pod,
    ]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on these objects; returns exit code, output and errors."""

    def _run(*arguments: str, objects: list[Wire] | None = None, manifest: Wire | None = None) -> tuple[int, str, str]:
        saved = tmp_path / "objects.yaml"
        saved.write_text(yaml.safe_dump({"kind": "List", "items": cluster() if objects is None else objects}))
        if manifest is not None:
            (tmp_path / "manifest.json").write_text(json.dumps(manifest))
            arguments = (*arguments, "-f", str(tmp_path / "manifest.json"))
        code = main([*arguments, "--from", str(saved)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return _run


def test_nodes_show_the_sums_of_their_cards(run: Run) -> None:
    code, output, _ = run("nodes")
    assert code == 0
    assert [line.split() for line in output.splitlines()] == [
        ["NODE", "CARDS", "CORES", "MEMORY", "SHARES", "TAINTED"],
        ["node-a", "2", "[###.......]", "60/200", "[####......]", "12Gi/32Gi", "[#.........]", "1/20", "1"],
        ["node-b", "1", "-", "[##########]", "16Gi/16Gi", "-", "-"],
    ]


def test_devices_show_who_has_what(run: Run) -> None:
    code, output, _ = run("devices")
    assert code == 0
    first, second, third = output.splitlines()[1:]
    assert first.endswith("team-b/big (cores 60, memory 12Gi)")
    assert "[########..] 12Gi/16Gi" in first
    assert "vgpu.hami.io/unhealthy:NoSchedule" in second
    assert third.endswith("team-b/all (whole card)")


def test_devices_are_plain_values_for_programs(run: Run) -> None:
    code, output, _ = run("devices", "-o", "json")
    values = json.loads(output)
    assert code == 0
    assert values[0]["capacity"]["memory"] == {"used": "12Gi", "total": "16Gi"}
    assert values[0]["claims"] == [{"claim": "team-b/big", "amounts": {"cores": "60", "memory": "12Gi", "shares": "1"}}]
    assert [value["whole"] for value in values] == [False, False, True]


def test_claims_show_cards_or_the_reason(run: Run) -> None:
    _, output, _ = run("claims", "-A")
    lines = {line.split()[1]: line for line in output.splitlines()}
    assert "gpu-0 (cores 60, memory 12Gi, shares 1)" in lines["big"]
    assert "big-pod" in lines["big"]
    assert "CapacityShort: memory: asks for 8Gi, takes 8Gi, 4Gi of 16Gi free, 4Gi short" in lines["train"]


def test_claims_of_one_namespace_only(run: Run) -> None:
    _, output, _ = run("claims", "-n", "team-a")
    assert "train" in output
    assert "big" not in output


def test_explain_says_why_a_claim_waits_and_leaves_with_two(run: Run) -> None:
    code, output, _ = run("explain", "claim/train", "-n", "team-a")
    assert code == 2
    assert output.startswith("Claim team-a/train does not fit.\n  CapacityShort: memory: asks for 8Gi")
    assert "release team-b/big (cores 60, memory 12Gi, shares 1)" in output


def test_explain_of_a_pod_explains_its_claims(run: Run) -> None:
    by_pod, by_name = run("explain", "pod/trainer", "-n", "team-a"), run("explain", "trainer", "-n", "team-a")
    assert by_pod == by_name == run("explain", "train", "-n", "team-a")


def test_explain_of_a_pod_counts_only_nodes_that_take_it_and_tells_what_the_scheduler_said(run: Run) -> None:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are there"}
    objects = cluster()
    objects[-1]["spec"]["nodeSelector"] = {"zone": "z1"}
    objects[-1]["status"]["conditions"] = [refused]
    code, output, _ = run("explain", "pod/trainer", "-n", "team-a", "-o", "json", objects=objects)
    told = json.loads(output)
    assert code == 2
    assert [reason["code"] for reason in told["reasons"]] == ["NodeExcluded"]
    assert told["observed"]["message"] == "0/2 nodes are there"
    assert "CapacityShort" in run("explain", "claim/train", "-n", "team-a", objects=objects)[1]


def test_explain_of_an_allocated_claim_shows_what_it_has(run: Run) -> None:
    code, output, _ = run("explain", "big", "-n", "team-b")
    assert code == 0
    assert "node-a-nvidia/gpu-0, cores 60, memory 12Gi, shares 1" in output


def test_claims_of_a_pod_that_fit_only_apart_do_not_fit(run: Run) -> None:
    objects = [device_class(), pool("node-a", card("gpu-0"))]
    objects += [waiting(exactly(capacity={"memory": "10Gi"}), name=name) for name in ("one", "two")]
    names = [{"name": name, "resourceClaimName": name} for name in ("one", "two")]
    objects.append({"kind": "Pod", "metadata": {"namespace": "team-a", "name": "p"}, "spec": {"resourceClaims": names}})
    code, output, _ = run("explain", "pod/p", "-n", "team-a", objects=objects)
    assert code == 2
    assert output.rstrip().endswith("no node has room for all of them at once.")


def test_what_cannot_be_judged_leaves_with_three(run: Run) -> None:
    claim, objects = CASES[next(code for code in CASES if code == "SelectorUnknown")]
    code, output, _ = run("explain", "train", "-n", "team-a", objects=[device_class(), claim, *objects])
    assert code == 3
    assert "may or may not fit" in output


def test_fit_tells_where_and_how_often(run: Run) -> None:
    code, output, _ = run("fit", manifest=_template({"memory": "1Gi", "cores": "10"}))
    assert code == 0
    assert "Room for 4 of this kind: 4 on node-a" in output


def test_fit_leaves_with_two_when_it_does_not(run: Run) -> None:
    code, output, _ = run("fit", "-o", "json", manifest=_template({"memory": "8Gi"}))
    values = json.loads(output)
    assert code == 2
    assert values["verdict"] == "DoesNotFit"
    assert values["room"] == {}
    assert {one["change"] for one in values["suggestions"]} == {"Shrink", "Release", "Tolerate"}


def test_a_claim_of_the_same_name_does_not_make_room_for_itself(run: Run) -> None:
    manifest = {**_template({"memory": "8Gi"}), "metadata": {"name": "big", "namespace": "team-b"}}
    assert run("fit", manifest=manifest)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explain", "claim/absent"), "there is no claim 'absent' in namespace 'default'"),
        (("explain", "job/train"), "neither a claim nor a pod"),
        (("fit", "-f", "/nowhere.yaml"), "/nowhere.yaml"),
    ],
)
def test_errors_are_one_line_and_leave_with_one(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, output, errors = run(*arguments)
    assert (code, output) == (1, "")
    assert errors.startswith("error: ")
    assert words in errors
    assert errors.count("\n") == 1


def test_a_broken_object_is_named_with_its_field(run: Run) -> None:
    broken: Any = pool("node-a", card("gpu-0"))
    broken["spec"]["devices"][0]["capacity"]["memory"]["value"] = "much"
    code, _, errors = run("nodes", objects=[broken])
    assert code == 1
    assert "ResourceSlice 00-node-a: spec.devices[0].capacity.memory.value" in errors


def test_nothing_to_show_is_said(run: Run) -> None:
    assert run("devices", objects=[])[1] == "No cards of vgpu.hami.io.\n"
    assert run("claims", "-A", objects=[])[1] == "No claims.\n"


def _template(capacity: Wire) -> Wire:
    requests = [{"name": "slice", "exactly": exactly(capacity=capacity)}]
    spec = {"spec": {"devices": {"requests": requests}}}
    return {"kind": "ResourceClaimTemplate", "metadata": {"name": "slice"}, "spec": spec}


def test_a_null_in_a_manifest_is_a_field_that_is_not_there(run: Run) -> None:
    objects = cluster()
    objects[-2]["status"] = {"allocation": None, "reservedFor": None}
    objects[-2]["spec"]["devices"]["constraints"] = None
    assert run("explain", "train", "-n", "team-a", objects=objects)[0] == 2


def test_a_list_of_one_kind_is_opened_like_a_list_of_many(run: Run) -> None:
    kinds = [wire for wire in cluster() if wire["kind"] == "ResourceSlice"]
    nameless = [{name: value for name, value in wire.items() if name != "kind"} for wire in kinds]
    assert run("nodes", objects=[{"kind": "ResourceSliceList", "items": nameless}])[1].count("node-") == 2
