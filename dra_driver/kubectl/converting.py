"""`kubectl vgpu convert`: manifests written for HAMi as manifests that need no HAMi and no migration.

The mapping is that of admission (dra_driver/migration). What differs is what people want of a file that they keep: the
templates have names to recognise, and what was meant for HAMi alone is gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml

from dra_driver.errors import ObjectRejected
from dra_driver.kubectl.manifests import Manifest
from dra_driver.migration.claiming import Context
from dra_driver.migration.conventions import (
    CARD_POLICY,
    MODE,
    NODE_POLICY,
    NUMA_BIND,
    SCORING,
    Convention,
)
from dra_driver.migration.pods import migrate, unserved
from dra_driver.migration.template import TemplateSpec, template_object
from dra_driver.migration.workloads import pod_templates, replaced

JsonObject = dict[str, Any]
Sizes = Callable[[], Mapping[str, frozenset[int]]]
_LONGEST_NAME = 63


@dataclass(frozen=True)
class Converted:
    """The manifests to print, warnings, and what could not be mapped."""

    objects: tuple[JsonObject, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]


class _WhenAsked(Mapping[str, frozenset[int]]):
    """Sizes of cards that are found out with the first percentage: without one no cluster is needed."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = cache(sizes)

    def __getitem__(self, vendor: str) -> frozenset[int]:
        """The sizes of a vendor's cards. Raises what finding out raises."""
        return self._sizes()[vendor]

    def __iter__(self) -> Iterator[str]:
        """The vendors."""
        return iter(self._sizes())

    def __len__(self) -> int:
        """How many vendors have cards."""
        return len(self._sizes())


def convert(manifests: Sequence[Manifest], context: Context, sizes: Sizes) -> Converted:
    """Map every pod in the manifests; all other objects stay as they are. `sizes` is asked only where they matter."""
    templates: dict[tuple[str, str], JsonObject] = {}
    objects: list[JsonObject] = []
    warnings: list[str] = []
    problems: list[str] = []
    context = replace(context, card_sizes=_WhenAsked(sizes))
    for manifest in manifests:
        try:
            objects.append(_convert(manifest, context, templates, warnings))
        except ObjectRejected as error:
            problems.append(f"{error.subject}: {error.path}: {error.problem}")
    return Converted((*templates.values(), *objects), tuple(warnings), tuple(problems))


def as_yaml(objects: Sequence[JsonObject]) -> str:
    """One document for each object, with the fields in the order in which they were written."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True).rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Writes equal parts twice, as no manifest has anchors that nobody wrote."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _convert(
    manifest: Manifest, context: Context, templates: dict[tuple[str, str], JsonObject], warnings: list[str]
) -> JsonObject:
    wire = manifest.wire
    names = _Names(manifest, taken={name for _, name in templates})
    for path, pod in pod_templates(wire):
        found = migrate(pod, context, subject=manifest.subject, path=path, naming=names)
        if found is not None:
            namespace = str((wire.get("metadata") or {}).get("namespace", ""))
            for name, spec in found.templates.items():
                templates[(namespace, name)] = template_object(name, spec, namespace=namespace)
            wire = replaced(wire, path, _without_hami(found.pod, pod, context.conventions))
            warnings += [f"{manifest.subject}: {warning}" for warning in found.warnings]
        elif foreign := unserved(pod):
            warnings.append(f"{manifest.subject}: {', '.join(foreign)}: no backend serves it here; left as it is")
    return wire


class _Names:
    """Names templates after workload and container; containers that ask for the same share one."""

    def __init__(self, manifest: Manifest, *, taken: set[str]) -> None:
        metadata = manifest.wire.get("metadata") or {}
        self._workload = str(metadata.get("name") or metadata.get("generateName") or "pod").strip("-")
        self._taken = taken
        self._known: dict[str, str] = {}

    def __call__(self, container: str, spec: TemplateSpec) -> str:
        if spec.name in self._known:
            return self._known[spec.name]
        base = re.sub(r"[^a-z0-9-]+", "-", f"{self._workload}-{container}".lower())[:_LONGEST_NAME].strip("-")
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base[: _LONGEST_NAME - 1 - len(str(number))]}-{number}"
        self._taken.add(name)
        self._known[spec.name] = name
        return name


def _without_hami(pod: JsonObject, before: Mapping[str, Any], conventions: Sequence[Convention]) -> JsonObject:
    """Drop what only HAMi reads."""
    if pod["spec"].get("schedulerName") != (before.get("spec") or {}).get("schedulerName"):
        pod = {**pod, "spec": {name: part for name, part in pod["spec"].items() if name != "schedulerName"}}
    read = {name for convention in conventions for name in convention.choice.names}
    read |= {CARD_POLICY, MODE, NODE_POLICY, NUMA_BIND, SCORING}
    metadata = pod.get("metadata") or {}
    if not read & set(metadata.get("annotations") or ()):
        return pod
    annotations = {name: value for name, value in metadata["annotations"].items() if name not in read}
    rest = {name: part for name, part in metadata.items() if name != "annotations"}
    return {**pod, "metadata": {**rest, **({"annotations": annotations} if annotations else {})}}
