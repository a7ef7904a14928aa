"""What is refused: the path of the bad field, what would be right, and nothing that was allowed before."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from dra_driver.controller.admission.features import Feature
from dra_driver.controller.admission.permissions import Permissions
from dra_driver.controller.admission.reach import Reach
from dra_driver.controller.admission.review import ALLOWED, Answer, Refusal
from dra_driver.controller.admission.rules import ObjectRules
from dra_driver.errors import ObjectRejected
from dra_driver.kube.errors import KubeError
from tests.unit.controller.admission.asking import DRIVER, claim, config, device_class, review, template
from tests.unit.controller.admission.objects_api import ObjectsApi

NAMESPACE = "/api/v1/namespaces/team-a"
HOST_MEMORY = {"oversubscribe": {"hostMemory": "4Gi"}}
BAD = config(priority="urgent")


def namespace(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "team-a", "labels": labels}}


class Judged:
    """The rules with a namespace behind them."""

    def __init__(self, restricted: frozenset[Feature] = frozenset(Feature)) -> None:
        self.api = ObjectsApi({NAMESPACE: namespace()})
        self.permissions = Permissions(self.api, restricted)
        self.rules = ObjectRules(driver=DRIVER, permissions=self.permissions, reach=Reach(driver=DRIVER))

    async def refusal(self, *args: Any, **fields: Any) -> Refusal:
        answer = await self.rules.review(review(*args, **fields))
        assert answer.refusal is not None
        return answer.refusal

    async def allows(self, *args: Any, **fields: Any) -> bool:
        return (await self.rules.review(review(*args, **fields))).refusal is None


@pytest.fixture
def judged() -> Judged:
    return Judged()


@pytest.mark.parametrize(
    ("fields", "path", "right"),
    [
        ({"computePolicie": "burst"}, "computePolicie", "known here: apiVersion, computePolicy, kind"),
        ({"computePolicy": "bursty"}, "computePolicy", "'fixed', 'burst' or 'shared'"),
        ({"priority": 1}, "priority", "'high' or 'low'"),
        ({"memory": {"oversubscribed": True}}, "memory.oversubscribed", "known here: oversubscribe"),
        ({"memory": {"oversubscribe": {"hostMemory": "a lot"}}}, "memory.oversubscribe.hostMemory", "such as 8Gi"),
        ({"kind": "GpuConfig"}, "kind", "'VgpuConfig'"),
        ({"apiVersion": "vgpu.hami.io/v2"}, "apiVersion", "'vgpu.hami.io/v1alpha1'"),
    ],
)
@pytest.mark.parametrize(
    ("make", "base"),
    [(claim, "spec.devices.config"), (template, "spec.spec.devices.config"), (device_class, "spec.config")],
)
async def test_a_bad_field_is_named_with_what_would_be_right(
    judged: Judged, make: Any, base: str, fields: dict[str, Any], path: str, right: str
) -> None:
    refusal = await judged.refusal(make(config(), config(**fields)))
    assert refusal.message.startswith(f"{base}[1].opaque.parameters.{path}: ")
    assert right in refusal.message
    assert (refusal.reason, refusal.status) == ("BadConfig", HTTPStatus.UNPROCESSABLE_ENTITY)


async def test_all_bad_configs_are_named_at_once(judged: Judged) -> None:
    message = (await judged.refusal(claim(BAD, config(), config(logLevel="loud")))).message
    assert "config[0].opaque.parameters.priority" in message
    assert "config[2].opaque.parameters.logLevel" in message


@pytest.mark.parametrize("parameters", [None, [], "text", 7])
async def test_parameters_that_are_no_object_are_refused(judged: Judged, parameters: object) -> None:
    entry = {"opaque": {"driver": DRIVER, "parameters": parameters}}
    assert "config[0].opaque.parameters: must be an object" in (await judged.refusal(claim(entry))).message


@pytest.mark.parametrize("make", [claim, template, device_class])
async def test_what_belongs_to_other_drivers_is_none_of_our_business(judged: Judged, make: Any) -> None:
    assert await judged.rules.review(review(make(config("gpu.example.com", anything=1)))) == ALLOWED


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
async def test_older_versions_are_judged_too(judged: Judged, version: str) -> None:
    flat = {"name": "gpu", "deviceClassName": DRIVER, "allocationMode": "ExactCount", "count": 1}
    requests = [flat] if version == "v1beta1" else None
    refusal = await judged.refusal(claim(BAD, requests=requests), version=version)
    assert refusal.message.startswith("spec.devices.config[0].opaque.parameters.priority: ")


@pytest.mark.parametrize("make", [claim, template, device_class])
async def test_an_object_that_was_bad_before_stays_editable(judged: Judged, make: Any) -> None:
    labelled = make(BAD)
    labelled["metadata"]["labels"] = {"team": "a"}
    assert await judged.allows(labelled, make(BAD))


async def test_what_an_update_adds_is_judged(judged: Judged) -> None:
    refusal = await judged.refusal(device_class(BAD, config(logLevel="loud")), device_class(BAD))
    assert refusal.message.startswith("spec.config[1].opaque.parameters.logLevel: ")


async def test_deleting_is_never_refused(judged: Judged) -> None:
    assert await judged.allows(None, claim(BAD))


async def test_a_dry_run_is_answered_like_any_other(judged: Judged) -> None:
    assert (await judged.refusal(claim(BAD), dryRun=True)).reason == "BadConfig"


@pytest.mark.parametrize(
    ("fields", "field", "label", "reason"),
    [
        ({"priority": "high"}, "priority", "vgpu.hami.io/allow-high-priority", "HighPriorityNotAllowed"),
        (
            {"memory": HOST_MEMORY},
            *("memory.oversubscribe.hostMemory", "vgpu.hami.io/allow-oversubscribe", "OversubscribeNotAllowed"),
        ),
    ],
)
async def test_what_takes_from_others_needs_the_namespaces_label(
    judged: Judged, fields: dict[str, Any], field: str, label: str, reason: str
) -> None:
    refusal = await judged.refusal(claim(config(**fields)))
    assert refusal.message.startswith(
        f"spec.devices.config[0].opaque.parameters.{field}: not allowed in namespace team-a"
    )
    assert f"{label}=true" in refusal.message
    assert (refusal.reason, refusal.status) == (reason, HTTPStatus.FORBIDDEN)
    judged.permissions.saw(namespace(**{label: "yes"}))
    assert not await judged.allows(claim(config(**fields)))
    judged.permissions.saw(namespace(**{label: "true"}))
    assert await judged.allows(claim(config(**fields)))
    judged.permissions.saw(namespace())
    assert not await judged.allows(template(config(**fields)))


async def test_low_priority_and_no_host_memory_need_no_label(judged: Judged) -> None:
    assert await judged.allows(claim(config(priority="low", memory={"oversubscribe": {"hostMemory": "0"}})))
    assert judged.api.requests == []


async def test_whoever_may_write_classes_may_give_high_priority_to_all(judged: Judged) -> None:
    assert await judged.allows(device_class(config(priority="high", memory=HOST_MEMORY)))


async def test_a_label_that_the_watch_has_not_brought_yet_counts(judged: Judged) -> None:
    judged.api.objects[NAMESPACE] = namespace(**{Feature.HIGH_PRIORITY.label: "true"})
    assert await judged.allows(claim(config(priority="high")))


async def test_a_namespace_that_is_gone_allows_nothing(judged: Judged) -> None:
    judged.permissions.saw(namespace(**{Feature.HIGH_PRIORITY.label: "true"}))
    judged.permissions.gone(namespace())
    judged.api.objects.clear()
    assert not await judged.allows(claim(config(priority="high")))


async def test_when_nobody_can_tell_the_failure_policy_decides(judged: Judged) -> None:
    judged.api.failing = KubeError("GET", 0, "no answer")
    with pytest.raises(KubeError):
        await judged.rules.review(review(claim(config(priority="high"))))


async def test_what_is_not_restricted_is_allowed_everywhere() -> None:
    judged = Judged(frozenset({Feature.OVERSUBSCRIBE}))
    assert await judged.allows(claim(config(priority="high")))
    assert not await judged.allows(claim(config(memory=HOST_MEMORY)))


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ({"group": "apps", "version": "v1", "kind": "Deployment"}, "request.kind.group"),
        ({"group": "resource.k8s.io", "version": "v1", "kind": "ResourceSlice"}, "kind"),
    ],
)
async def test_an_object_that_was_sent_by_mistake_is_not_waved_through(
    judged: Judged, kind: dict[str, str], path: str
) -> None:
    with pytest.raises(ObjectRejected) as refused:
        await judged.rules.review(review(claim(), kind=kind))
    assert refused.value.path == path


@pytest.mark.parametrize("spec", [None, {}, {"devices": None}, {"devices": {"requests": None, "config": None}}])
async def test_an_object_with_nothing_in_it_is_allowed(judged: Judged, spec: Any) -> None:
    assert await judged.rules.review(review({**claim(), "spec": spec})) == Answer()


@pytest.mark.parametrize("devices", [{"config": [None]}, {"config": {}}, {"requests": [7]}, {"requests": [{}]}, []])
async def test_an_object_of_another_form_is_not_waved_through(judged: Judged, devices: Any) -> None:
    with pytest.raises(ObjectRejected):
        await judged.rules.review(review({**claim(), "spec": {"devices": devices}}))
