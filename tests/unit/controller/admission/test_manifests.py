"""The manifests and the code speak of the same objects, and the manifests give no more than is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dra_driver.controller.admission import secret, webhooks
from dra_driver.controller.admission.admission import VALIDATE
from dra_driver.controller.settings import ControllerSettings

MANIFESTS = Path(__file__).parents[4] / "deploy/manifests"
SETTINGS = ControllerSettings(pod_name="controller-0")
Wire = dict[str, Any]


def documents(path: str) -> list[Wire]:
    return list(yaml.safe_load_all((MANIFESTS / path).read_text(encoding="utf-8")))


def of_kind(path: str, kind: str) -> Wire:
    (found,) = [wire for wire in documents(path) if wire["kind"] == kind]
    return found


VALIDATION = of_kind("admission/validation.yaml", "ValidatingWebhookConfiguration")


def test_the_secret_is_the_one_that_the_controller_writes_and_holds_nothing_yet() -> None:
    wire = of_kind("controller-admission.yaml", "Secret")
    assert (wire["metadata"]["name"], wire["metadata"]["namespace"]) == (secret.NAME, SETTINGS.namespace)
    assert "data" not in wire
    assert "stringData" not in wire


def test_rights_to_write_are_for_single_objects() -> None:
    for kind in ("Role", "ClusterRole"):
        for rule in of_kind("controller-admission.yaml", kind)["rules"]:
            if set(rule["verbs"]) - {"get"} or rule["resources"] == ["secrets"]:
                assert rule["resourceNames"] == [secret.NAME]
    assert secret.NAME == webhooks.NAME


def test_the_configuration_leads_to_the_controller() -> None:
    assert VALIDATION["metadata"]["name"] == webhooks.NAME
    for webhook in VALIDATION["webhooks"]:
        service = webhook["clientConfig"]["service"]
        assert (service["name"], service["namespace"]) == (SETTINGS.webhook_service, SETTINGS.namespace)
        assert service["path"] == f"/{VALIDATE}"


@pytest.mark.parametrize("webhook", VALIDATION["webhooks"], ids=lambda webhook: webhook["name"])
def test_no_webhook_can_lock_the_cluster_out(webhook: Wire) -> None:
    (rule,) = webhook["rules"]
    assert set(rule["operations"]) == {"CREATE", "UPDATE"}, "deletion must never wait"
    assert all("/" not in resource for resource in rule["resources"]), "the scheduler writes the status"
    assert webhook["failurePolicy"] == SETTINGS.admission_failure_policy
    assert webhook["sideEffects"] == "None"
    assert {condition["name"] for condition in webhook["matchConditions"]} == {
        *("changes-what-is-judged", "names-our-driver"),
    }
    if rule["scope"] == "Namespaced":
        (left_out,) = webhook["namespaceSelector"]["matchExpressions"]
        assert {SETTINGS.namespace, "kube-system"} == set(left_out["values"])
