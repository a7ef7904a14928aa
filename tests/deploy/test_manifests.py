"""A manifest with a name that nothing defines fails only when somebody applies it: find it here instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
EXAMPLES = sorted(folder for folder in (DEPLOY / "examples").iterdir() if folder.is_dir())
Document = dict[str, Any]


def documents(folder: Path) -> list[Document]:
    """All objects in a folder's manifests."""
    return [
        document
        for file in sorted(folder.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]


def of_kind(found: list[Document], kind: str) -> list[Document]:
    return [document for document in found if document["kind"] == kind]


def names(found: list[Document]) -> set[str]:
    return {document["metadata"]["name"] for document in found}


def requests_of(template: Document) -> list[Document]:
    requests: list[Document] = template["spec"]["spec"]["devices"]["requests"]
    return requests


def classes_named(request: Document) -> Iterator[str]:
    for choice in request.get("firstAvailable", [request.get("exactly")]):
        yield choice["deviceClassName"]


def every_example() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("folder", EXAMPLES, ids=[folder.name for folder in EXAMPLES])


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


@every_example()
def test_an_example_has_one_manifest_of_its_name_and_a_readme_that_applies_it(folder: Path) -> None:
    assert [file.name for file in folder.glob("*.yaml")] == [f"{folder.name}.yaml"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"kubectl apply -f deploy/examples/{folder.name}/{folder.name}.yaml" in readme


@every_example()
def test_an_example_names_only_what_exists(folder: Path) -> None:
    found = documents(folder)
    templates = {document["metadata"]["name"]: document for document in of_kind(found, "ResourceClaimTemplate")}
    classes = names(of_kind(documents(DEPLOY / "manifests"), "DeviceClass"))
    for template in templates.values():
        asked = {request["name"] for request in requests_of(template)}
        assert {name for request in requests_of(template) for name in classes_named(request)} <= classes
        for constraint in template["spec"]["spec"]["devices"].get("constraints", []):
            assert set(constraint["requests"]) <= asked
    for pod in of_kind(found, "Pod"):
        claims = {
            claim["name"]: templates[claim["resourceClaimTemplateName"]] for claim in pod["spec"]["resourceClaims"]
        }
        for container in pod["spec"]["containers"]:
            for use in container["resources"]["claims"]:
                asked = {request["name"] for request in requests_of(claims[use["name"]])}
                assert use.get("request") is None or use["request"] in asked


def test_names_of_examples_do_not_collide() -> None:
    every = [(document["kind"], document["metadata"]["name"]) for folder in EXAMPLES for document in documents(folder)]
    assert len(every) == len(set(every))


def named(found: list[Document], kind: str, name: str) -> Document:
    (document,) = [document for document in of_kind(found, kind) if document["metadata"]["name"] == name]
    return document


def test_the_policy_and_the_binding_mean_the_same_service_account() -> None:
    found = documents(DEPLOY / "manifests")
    account = named(found, "ServiceAccount", "hami-dra-kubeletplugin")
    (policy,) = of_kind(found, "ValidatingAdmissionPolicy")
    binding = named(found, "ClusterRoleBinding", "hami-dra-kubeletplugin")
    namespace, name = account["metadata"]["namespace"], account["metadata"]["name"]
    (condition,) = policy["spec"]["matchConditions"]
    assert f'"system:serviceaccount:{namespace}:{name}"' in condition["expression"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]


def test_every_binding_gives_a_role_that_exists_to_an_account_that_exists() -> None:
    found = documents(DEPLOY / "manifests")
    bindings = of_kind(found, "ClusterRoleBinding") + of_kind(found, "RoleBinding")
    assert len(bindings) >= 2
    for binding in bindings:
        assert named(found, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            account = named(found, subject["kind"], subject["name"])
            assert account["metadata"]["namespace"] == subject["namespace"]


def test_no_role_has_wildcards() -> None:
    found = documents(DEPLOY / "manifests")
    for rule in (rule for role in of_kind(found, "ClusterRole") + of_kind(found, "Role") for rule in role["rules"]):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
