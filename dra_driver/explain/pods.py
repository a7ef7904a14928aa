"""What a pod that waits says of itself: which nodes it can be on, and what the scheduler has told it.

The first is computed with, the second is only shown: what was observed and what was worked out are told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dra_driver.errors import ObjectRejected
from dra_driver.explain.admission import Placing
from dra_driver.explain.objects import Wire
from dra_driver.kube.claims import dotted


@dataclass(frozen=True)
class Observed:
    """What the scheduler has said of a pod, in its own words."""

    reason: str
    message: str
    since: str


class _Condition(Wire):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class _Status(Wire):
    conditions: tuple[_Condition, ...] = ()


class _Pod(Wire):
    spec: Placing = Placing()
    status: _Status = _Status()


def read_pod(wire: Mapping[str, Any]) -> tuple[Placing, Observed | None]:
    """Read both. Raises ObjectRejected with the field's path."""
    try:
        pod = _Pod.model_validate(wire)
    except ValidationError as error:
        first = error.errors()[0]
        metadata = wire.get("metadata") or {}
        name = f"{metadata.get('namespace', '?')}/{metadata.get('name', '?')}"
        raise ObjectRejected(f"Pod {name}", dotted(first["loc"]), first["msg"]) from error
    refusals = (one for one in pod.status.conditions if (one.type, one.status) == ("PodScheduled", "False"))
    said = next((Observed(one.reason, one.message, one.last_transition_time) for one in refusals), None)
    return pod.spec, said
