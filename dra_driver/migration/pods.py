"""A pod written for HAMi, and the pod that it becomes: its containers' resources as claims.

Works on any pod template, so that admission, `kubectl vgpu convert` and the templates inside of jobs go one way. Pure,
and it changes nothing where there is nothing of HAMi's, so that doing it twice is doing it once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dra_driver.migration.asking import Ask, Asked, asked_by, foreign_resources
from dra_driver.migration.claiming import Context, claim_for, request_names
from dra_driver.migration.conventions import IGNORED_LABEL, IGNORED_VALUE, SCHEDULER
from dra_driver.migration.shape import check_shape
from dra_driver.migration.sharing import Role, lenders
from dra_driver.migration.template import TemplateSpec
from dra_driver.migration.wishes import check, without_effect

JsonObject = dict[str, Any]
Naming = Callable[[str, TemplateSpec], str]
"""Names the template of a container."""

_MOST_CLAIM_NAME = 63


@dataclass(frozen=True)
class Migrated:
    """A pod template as it should be, and the claim templates that it names.

    `resources` are the amounts that were taken away, by container.
    """

    pod: JsonObject
    templates: Mapping[str, TemplateSpec]
    resources: Mapping[str, Mapping[str, str]]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Container:
    path: str
    wire: Mapping[str, Any]
    asked: Asked
    role: Role

    @property
    def name(self) -> str:
        return str(self.wire.get("name", ""))


def by_content(_: str, spec: TemplateSpec) -> str:
    """Name a template by its content, so that pods that ask for the same share one."""
    return spec.name


def migrate(
    pod: Mapping[str, Any], context: Context, *, subject: str, path: str = "", naming: Naming = by_content
) -> Migrated | None:
    """Map a pod or a pod template; None where it has nothing of HAMi's, or wants none of it.

    `subject` and `path` say where it stands. Raises ObjectRejected where it cannot be mapped.
    """
    check_shape(pod, subject=subject, path=path)
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations = _texts(metadata.get("annotations"))
    if (metadata.get("labels") or {}).get(IGNORED_LABEL) == IGNORED_VALUE:
        return None
    containers = _containers(spec, context, subject=subject, path=path)
    if not any(container.asked.resources for container in containers):
        return None
    vendors = {ask.convention.vendor for container in containers for ask in container.asked.asks}
    check(spec, annotations, vendors, subject=subject, path=path)
    claims = _claims(containers, spec, annotations, context, subject=subject, naming=naming)
    migrated: JsonObject = copy.deepcopy(dict(pod))
    for container in containers:
        _rewrite(_at(migrated, container.path.removeprefix(path).lstrip(".")), container, claims.used[container.name])
    if claims.entries:
        migrated["spec"]["resourceClaims"] = [*(spec.get("resourceClaims") or ()), *claims.entries]
    if spec.get("schedulerName") == SCHEDULER:
        migrated["spec"]["schedulerName"] = "default-scheduler"
    resources = {one.name: dict(one.asked.resources) for one in containers if one.asked.resources}
    warned = [*claims.warnings, *without_effect(annotations, path)]
    return Migrated(migrated, claims.templates, resources, tuple(dict.fromkeys(warned)))


def unserved(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Resources of vendors that no backend serves; a pod with such alone is left as it is."""
    spec = pod.get("spec") or {}
    every = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return tuple(dict.fromkeys(name for container in every for name in foreign_resources(container)))


def _containers(spec: Mapping[str, Any], context: Context, *, subject: str, path: str) -> tuple[_Container, ...]:
    dot = f"{path}." if path else ""
    return tuple(
        _Container(
            where := f"{dot}spec.{section}[{index}]",
            wire,
            asked_by(wire, context.conventions, subject=subject, path=where),
            _role(section, wire),
        )
        for section in ("initContainers", "containers")
        for index, wire in enumerate(spec.get(section) or ())
    )


def _role(section: str, wire: Mapping[str, Any]) -> Role:
    if section == "containers":
        return Role.MAIN
    return Role.BESIDE if wire.get("restartPolicy") == "Always" else Role.PASSING


@dataclass(frozen=True)
class _Claims:
    """What the pod's containers refer to: entries of spec.resourceClaims, templates, and references by container."""

    entries: tuple[JsonObject, ...]
    templates: Mapping[str, TemplateSpec]
    used: Mapping[str, tuple[JsonObject, ...]]
    warnings: tuple[str, ...]


def _claims(
    containers: Sequence[_Container],
    spec: Mapping[str, Any],
    annotations: Mapping[str, str],
    context: Context,
    *,
    subject: str,
    naming: Naming,
) -> _Claims:
    taken = {str(entry.get("name")) for entry in spec.get("resourceClaims") or ()}
    lent = lenders([(one.role, one.asked.asks) for one in containers])
    entries: list[JsonObject] = []
    templates: dict[str, TemplateSpec] = {}
    names: dict[int, str] = {}
    warnings = [warning for one in containers for warning in one.asked.warnings]
    for index, container in enumerate(containers):
        if not container.asked.asks or lent[index] != index:
            continue
        claim, warned = claim_for(container.asked.asks, annotations, context, subject=subject, path=container.path)
        names[index] = _claim_name(container.name, taken)
        taken.add(names[index])
        template = naming(container.name, claim)
        templates[template] = claim
        entries.append({"name": names[index], "resourceClaimTemplateName": template})
        warnings += warned
    used = {
        container.name: _references(names[lent[index]], container.asked.asks, containers[lent[index]].asked.asks)
        if container.asked.asks
        else ()
        for index, container in enumerate(containers)
    }
    return _Claims(tuple(entries), templates, used, tuple(warnings))


def _references(claim: str, asks: Iterable[Ask], lender: Sequence[Ask]) -> tuple[JsonObject, ...]:
    """Refer to a claim: to all of it, or to as many of its requests as this container asks for."""
    wanted = {ask.convention: ask.count for ask in asks}
    if wanted == {ask.convention: ask.count for ask in lender}:
        return ({"name": claim},)
    return tuple(
        {"name": claim, "request": request}
        for ask in lender
        for request in request_names(ask)[: wanted.get(ask.convention, 0)]
    )


def _claim_name(container: str, taken: set[str]) -> str:
    """Name the claim within the pod after its container."""
    base = f"vgpu-{container}"[:_MOST_CLAIM_NAME].rstrip("-")
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base[: _MOST_CLAIM_NAME - 1 - len(str(number))]}-{number}"
    return name


def _rewrite(wire: JsonObject, container: _Container, references: Sequence[JsonObject]) -> None:
    if not container.asked.resources:
        return
    resources: JsonObject = dict(wire.get("resources") or {})
    for section in ("limits", "requests"):
        kept = {
            name: amount
            for name, amount in (resources.get(section) or {}).items()
            if name not in container.asked.resources
        }
        resources[section] = kept
        if not kept:
            del resources[section]
    if references:
        resources["claims"] = [*(resources.get("claims") or ()), *references]
    wire["resources"] = resources


def _at(pod: JsonObject, path: str) -> JsonObject:
    """The container at `spec.<section>[<index>]`."""
    _, section, index = path.replace("[", ".").rstrip("]").split(".")
    found: JsonObject = pod["spec"][section][int(index)]
    return found


def _texts(annotations: Any) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in (annotations or {}).items()}
