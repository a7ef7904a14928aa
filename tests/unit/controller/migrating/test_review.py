"""The question of the API server and its answer: patch, warnings, refusal, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dra_driver.controller.admission.features import Feature
from dra_driver.controller.admission.review import ALLOWED, Answer, Operation, Review
from dra_driver.controller.migrating.review import PodMigration
from dra_driver.controller.observing import Change, Kind
from dra_driver.kube.connection import JsonObject
from dra_driver.migration.conventions import DEFAULT
from dra_driver.migration.markers import TEMPLATES
from tests.unit.migration.pods_for_hami import container, pod
from tests.unit.migration.test_card_sizes import pool

Wire = dict[str, Any]
ALLOWING = {"vgpu.hami.io/allow-high-priority": "true"}


class Namespaces:
    """An API server that has one namespace, without labels."""

    async def request(self, method: str, path: str, **_: Any) -> JsonObject:
        assert (method, path) == ("GET", "/api/v1/namespaces/team")
        return namespace()

    def watch(self, path: str, *, query: Any) -> Any:
        raise NotImplementedError(path, query)


def namespace(**labels: str) -> Wire:
    return {"metadata": {"name": "team", "labels": labels}}


@pytest.fixture
def migration() -> PodMigration:
    return PodMigration(
        Namespaces(), driver="vgpu.hami.io", conventions=DEFAULT, restricted=frozenset({Feature.HIGH_PRIORITY})
    )


async def asked(migration: PodMigration, wire: Wire, operation: Operation = Operation.CREATE) -> Answer:
    review = Review(
        *("uid", "", "v1", "Pod", operation, "team", "", False, "someone"),
        new=None if operation is Operation.DELETE else wire,
        old=None,
    )
    return await migration.review(review)


async def test_a_pod_for_hami_gets_a_patch(migration: PodMigration) -> None:
    answer = await asked(migration, pod(container(nvidia_gpu=1, nvidia_gpumem=10)))
    assert answer.refusal is None
    assert {operation["path"] for operation in answer.patch} == {
        *("/spec/containers/0/resources", "/spec/resourceClaims", "/metadata/labels", "/metadata/annotations")
    }


async def test_other_pods_and_other_operations_are_let_by(migration: PodMigration) -> None:
    assert await asked(migration, pod(container(cpu=1))) == ALLOWED
    assert await asked(migration, pod(container(nvidia_gpu=1)), Operation.UPDATE) == ALLOWED
    assert await asked(migration, pod(container(nvidia_gpu=1)), Operation.DELETE) == ALLOWED


async def test_a_pod_can_stay_out(migration: PodMigration) -> None:
    wire = pod(container(nvidia_gpu=1))
    wire["metadata"]["labels"] = {"vgpu.hami.io/migrate": "off"}
    assert await asked(migration, wire) == ALLOWED


async def test_what_cannot_be_mapped_is_refused_with_the_field(migration: PodMigration) -> None:
    answer = await asked(migration, pod(container(nvidia_gpu="x")))
    assert answer.refusal is not None
    assert (answer.refusal.reason, answer.patch) == ("NotMigratable", ())
    assert answer.refusal.message.startswith("spec.containers[0].resources.limits[nvidia.com/gpu]: 'x' is not")


async def test_what_comes_out_otherwise_is_warned_about(migration: PodMigration) -> None:
    answer = await asked(migration, pod(container(nvidia_gpu=1), annotations={"hami.io/node-scheduler-policy": "x"}))
    (warning,) = answer.warnings
    assert "has no effect" in warning.message


async def test_percentages_are_of_the_cards_that_were_seen(migration: PodMigration) -> None:
    wire = pod(container(nvidia_gpumem_percentage=50))
    assert (await asked(migration, wire)).refusal is not None
    migration.saw(Kind.SLICES, Change.LISTED, pool("a", "16Gi"))
    assert '"memory":"8Gi"' in template_text(await asked(migration, wire))
    migration.saw(Kind.SLICES, Change.MODIFIED, pool("a", "32Gi"))
    assert '"memory":"16Gi"' in template_text(await asked(migration, wire))
    migration.saw(Kind.SLICES, Change.MODIFIED, {"metadata": {"name": "a"}, "spec": "nonsense"})
    assert '"memory":"16Gi"' in template_text(await asked(migration, wire))
    migration.saw(Kind.SLICES, Change.DELETED, {"metadata": {"name": "a"}})
    assert (await asked(migration, wire)).refusal is not None


def template_text(answer: Answer) -> str:
    (annotations,) = [one["value"] for one in answer.patch if one["path"] == "/metadata/annotations"]
    text = annotations[TEMPLATES]
    assert json.loads(text)
    return str(text)


async def test_high_priority_needs_the_permission_of_the_namespace(migration: PodMigration) -> None:
    wire = pod(container(nvidia_gpu=1, nvidia_priority=0))
    refused = (await asked(migration, wire)).refusal
    assert refused is not None
    assert refused.reason == "HighPriorityNotAllowed"
    assert "vgpu.hami.io/allow-high-priority=true" in refused.message
    migration.saw(Kind.NAMESPACES, Change.LISTED, namespace(**ALLOWING))
    assert (await asked(migration, wire)).refusal is None
    migration.saw(Kind.NAMESPACES, Change.DELETED, namespace())
    assert (await asked(migration, wire)).refusal is not None


async def test_low_priority_needs_none(migration: PodMigration) -> None:
    assert (await asked(migration, pod(container(nvidia_gpu=1, nvidia_priority=1)))).refusal is None
