"""The migration as an answer to the API server: a JSON patch for a pod, or for the pods inside of a job.

Volcano sums up the resources of a job's templates before any pod exists and holds the job back while the cluster lacks
them; so its jobs are mapped when they are created, and their pods come out migrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dra_driver.migration.claiming import Context
from dra_driver.migration.markers import marked
from dra_driver.migration.pods import Migrated, migrate, unserved
from dra_driver.migration.template import TemplateSpec
from dra_driver.migration.workloads import pod_templates, steps

Operation = dict[str, Any]


@dataclass(frozen=True)
class Mutation:
    """Patch operations (none where nothing changes), the templates that are then named, and warnings."""

    patch: tuple[Operation, ...] = ()
    templates: Mapping[str, TemplateSpec] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def mutate(wire: Mapping[str, Any], context: Context, *, subject: str) -> Mutation:
    """Map an object. Without side effects, and nothing on what is mapped already. Raises ObjectRejected."""
    patch: list[Operation] = []
    templates: dict[str, TemplateSpec] = {}
    warnings: list[str] = []
    for path, pod in pod_templates(wire):
        migrated = migrate(pod, context, subject=subject, path=path)
        if migrated is not None:
            patch += _patch(path, pod, migrated)
            templates |= migrated.templates
            warnings += migrated.warnings
        elif names := unserved(pod):
            warnings.append(f"{', '.join(names)}: no backend serves it here; left to whoever does")
    return Mutation(tuple(patch), templates, tuple(warnings))


def _patch(path: str, pod: Mapping[str, Any], migrated: Migrated) -> list[Operation]:
    """Replace what changed, field by field; `add` on a field that is there replaces it."""
    root = "".join(f"/{step}" for step in steps(path)) if path else ""
    metadata = pod.get("metadata") or {}
    labels, annotations = marked(metadata, migrated.templates, migrated.resources, migrated.warnings)
    before, after = pod["spec"], migrated.pod["spec"]
    operations = [
        _add(f"{root}/spec/{section}/{index}/resources", container["resources"])
        for section in ("initContainers", "containers")
        for index, container in enumerate(after.get(section) or ())
        if container != before[section][index]
    ]
    operations += [
        _add(f"{root}/spec/{field}", after[field])
        for field in ("resourceClaims", "schedulerName")
        if after.get(field) != before.get(field)
    ]
    if not isinstance(pod.get("metadata"), Mapping):
        return [*operations, _add(f"{root}/metadata", {"labels": labels, "annotations": annotations})]
    return [
        *operations,
        _add(f"{root}/metadata/labels", labels),
        _add(f"{root}/metadata/annotations", annotations),
    ]


def _add(path: str, value: Any) -> Operation:
    return {"op": "add", "path": path, "value": value}
