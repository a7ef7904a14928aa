"""The webhook of the migration and the code speak of the same things, and nobody is asked who does not want it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dra_driver.controller.admission import webhooks
from dra_driver.controller.admission.admission import MUTATE
from dra_driver.controller.settings import ControllerSettings
from dra_driver.migration.markers import OPT_IN, OPTED_IN, OPTED_OUT

MANIFESTS = Path(__file__).parents[4] / "deploy/manifests"
SETTINGS = ControllerSettings(pod_name="controller-0")
Wire = dict[str, Any]

CONFIGURATION: Wire = yaml.safe_load((MANIFESTS / "admission/migration.yaml").read_text(encoding="utf-8"))


def wants(webhook: Wire, selector: str, labels: dict[str, str]) -> bool:
    """Whether a selector takes an object with these labels."""
    rules = webhook[selector]
    for name, value in rules.get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for rule in rules.get("matchExpressions", ()):
        if (labels.get(rule["key"]) in rule["values"]) != (rule["operator"] == "In"):
            return False
    return True


def askers(kind: str, namespace: dict[str, str], labels: dict[str, str]) -> list[str]:
    """The webhooks that are asked about such an object."""
    return [
        webhook["name"]
        for webhook in CONFIGURATION["webhooks"]
        if webhook["rules"][0]["resources"] == [kind]
        and wants(webhook, "namespaceSelector", namespace)
        and wants(webhook, "objectSelector", labels)
    ]


@pytest.mark.parametrize("kind", ["pods", "jobs"])
@pytest.mark.parametrize(
    ("namespace", "labels", "number"),
    [
        ({}, {}, 0),
        ({OPT_IN: OPTED_IN}, {}, 1),
        ({}, {OPT_IN: OPTED_IN}, 1),
        ({OPT_IN: OPTED_IN}, {OPT_IN: OPTED_IN}, 1),
        ({OPT_IN: OPTED_IN}, {OPT_IN: OPTED_OUT}, 0),
        ({OPT_IN: "other"}, {}, 0),
        ({OPT_IN: OPTED_IN, "kubernetes.io/metadata.name": "kube-system"}, {OPT_IN: OPTED_IN}, 0),
        ({OPT_IN: OPTED_IN, "kubernetes.io/metadata.name": SETTINGS.namespace}, {OPT_IN: OPTED_IN}, 0),
    ],
)
def test_one_webhook_is_asked_about_what_wants_it_and_none_about_the_rest(
    kind: str, namespace: dict[str, str], labels: dict[str, str], number: int
) -> None:
    assert len(askers(kind, namespace, labels)) == number


@pytest.mark.parametrize("webhook", CONFIGURATION["webhooks"], ids=lambda webhook: webhook["name"])
def test_every_webhook_leads_to_the_controller_and_has_no_side_effects(webhook: Wire) -> None:
    service = webhook["clientConfig"]["service"]
    assert (service["name"], service["namespace"]) == (SETTINGS.webhook_service, SETTINGS.namespace)
    assert service["path"] == f"/{MUTATE}"
    assert (webhook["sideEffects"], webhook["reinvocationPolicy"]) == ("None", "IfNeeded")
    assert webhook["failurePolicy"] == SETTINGS.admission_failure_policy
    (rule,) = webhook["rules"]
    assert rule["operations"] == ["CREATE"]
    (condition,) = webhook["matchConditions"]
    assert condition["name"] == "asks-for-extended-resources"


def test_the_configuration_is_the_one_that_the_controller_writes_into() -> None:
    assert (CONFIGURATION["kind"], CONFIGURATION["metadata"]["name"]) == (
        "MutatingWebhookConfiguration",
        webhooks.NAME,
    )


def test_the_rights_are_for_templates_alone() -> None:
    found = yaml.safe_load_all((MANIFESTS / "controller-migration.yaml").read_text(encoding="utf-8"))
    (role,) = [wire for wire in found if wire["kind"] == "ClusterRole"]
    (rule,) = role["rules"]
    assert (rule["resources"], set(rule["verbs"])) == (
        ["resourceclaimtemplates"],
        {"get", "list", "watch", "create", "delete"},
    )
