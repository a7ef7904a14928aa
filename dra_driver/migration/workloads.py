"""Finds the pod templates inside of any object, whatever its kind.

Deployments, CronJobs, Volcano's and Kubeflow's jobs and many more hold pods in the same form, under a field called
`template` or `…Template`. Looking for the form and not for kinds serves those too that nobody has thought of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_DEEPEST = 24


def pod_templates(wire: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the object itself where it is a pod, or each pod template in it, with its field path."""
    if wire.get("kind") == "Pod":
        yield "", wire
    elif _is_pod(wire.get("template")) and wire.get("kind") == "PodTemplate":
        yield "template", wire["template"]
    else:
        yield from _below(wire.get("spec"), "spec", _DEEPEST)


def replaced(wire: Mapping[str, Any], path: str, pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object with another pod template at a path that `pod_templates` gave."""
    if not path:
        return dict(pod)
    copy = dict(wire)
    part: Any = copy
    *above, last = steps(path)
    for step in above:
        part[step] = dict(part[step]) if isinstance(part[step], Mapping) else list(part[step])
        part = part[step]
    part[last] = dict(pod)
    return copy


def steps(path: str) -> list[str | int]:
    """Take a field path apart: names, and places in lists."""
    return [
        int(part) if part.isdigit() and bracket else part
        for piece in path.split(".")
        for bracket, part in enumerate(piece.replace("]", "").split("["))
    ]


def _below(part: Any, path: str, deeper: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if deeper == 0:
        return
    if isinstance(part, Mapping):
        for name, value in part.items():
            # Where a path would be ambiguous there is no pod: these are free maps, not fields.
            if not isinstance(name, str) or not name.replace("-", "").isalnum():
                continue
            where = f"{path}.{name}"
            if (name == "template" or name.endswith("Template")) and _is_pod(value):
                yield where, value
            else:
                yield from _below(value, where, deeper - 1)
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _below(value, f"{path}[{index}]", deeper - 1)


def _is_pod(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and isinstance((part.get("spec") or {}), Mapping)
        and "containers" in (part.get("spec") or {})
    )
