"""What a migrated pod carries: marks by which people and the controller know it.

The claim templates themselves travel in an annotation. Admission must have no side effects, and what a percentage
becomes depends on the cards that are there at that moment, so the controller cannot compute them again: it reads them
here, strictly, and makes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dra_driver.errors import ObjectRejected
from dra_driver.migration.template import TemplateSpec, parse_template

OPT_IN = "vgpu.hami.io/migrate"
OPTED_IN = "hami"
OPTED_OUT = "off"
"""The label `vgpu.hami.io/migrate` of a namespace or a pod: `hami` wants the migration, `off` on a pod does not."""

FROM = "vgpu.hami.io/migrated-from"
FROM_HAMI = "hami"
TEMPLATES = "vgpu.hami.io/claim-templates"
RESOURCES = "vgpu.hami.io/migrated-resources"
WARNINGS = "vgpu.hami.io/migration-warnings"
_MOST_TEMPLATES = 64


def marked(
    metadata: Mapping[str, Any],
    templates: Mapping[str, TemplateSpec],
    resources: Mapping[str, Mapping[str, str]],
    warnings: tuple[str, ...],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the labels and the annotations that the pod gets; what an earlier round has put there is kept."""
    labels = {**(metadata.get("labels") or {}), FROM: FROM_HAMI}
    before = {name: str(value) for name, value in (metadata.get("annotations") or {}).items()}
    wire = {name: spec.wire() for name, spec in templates.items()}
    annotations = {
        **before,
        TEMPLATES: _text({**_map(before.get(TEMPLATES)), **wire}),
        RESOURCES: _text({**_map(before.get(RESOURCES)), **resources}),
    }
    if told := tuple(dict.fromkeys((*before.get(WARNINGS, "").splitlines(), *warnings))):
        annotations[WARNINGS] = "\n".join(told)
    return labels, annotations


def templates_of(metadata: Mapping[str, Any], *, driver: str, subject: str) -> Mapping[str, TemplateSpec]:
    """Read the templates of a pod; none where it is not migrated. Raises ObjectRejected."""
    text = (metadata.get("annotations") or {}).get(TEMPLATES)
    if not text or (metadata.get("labels") or {}).get(FROM) != FROM_HAMI:
        return {}
    path = f"metadata.annotations[{TEMPLATES}]"
    try:
        content = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ObjectRejected(subject, path, f"not JSON: {error}") from error
    if not isinstance(content, dict) or len(content) > _MOST_TEMPLATES:
        raise ObjectRejected(subject, path, f"must be at most {_MOST_TEMPLATES} templates by name")
    templates = {}
    for name, wire in content.items():
        spec = parse_template(wire, driver=driver, subject=subject, path=f"{path}.{name}")
        if spec.name != name:
            raise ObjectRejected(subject, f"{path}.{name}", f"its content is that of {spec.name}")
        templates[name] = spec
    return templates


def _map(text: str | None) -> dict[str, Any]:
    """What stands there already; nonsense that somebody wrote there is replaced."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
