"""The explanation as it is kept on the claim: for tools to read, and for the controller to know what it has said.

It is written when what matters of it changes, not when figures do: they are as of `written`. A reader must take it for
what the claim's owner lets stand, since whoever may edit the claim may edit this too.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from dra_driver.api.vgpuconfig import API_VERSION
from dra_driver.controller.waiting.news import PodNews, Unready
from dra_driver.explain.explanation import Explanation, Verdict
from dra_driver.explain.suggesting import Suggestion
from dra_driver.explain.wording import wire

KIND = "Explanation"
_LONGEST = 6 * 1024
_LONGEST_MESSAGE = 512
# What says why; the rest are figures, and names that change with them.
_TELLING = frozenset(
    {"capacity", "class", "index", "expression", "owner", "counter", "attribute", "key", "constraint", "request"}
    | {"limit", "problem", "reason", "asked"}
)
# What goes first when a record becomes too long.
_LEAST_NEEDED = ("conditions", "suggestions", "nearest", "funnel")


class Why(StrEnum):
    """Codes beside those of docs/reasons.md: the claim waits, but not for cards."""

    NOT_SCHEDULED = "NotScheduled"
    NOT_PREPARED = "NotPrepared"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Cause(_Value):
    """One reason: a code with its parameters, and words."""

    code: str
    parameters: Mapping[str, str | int] = {}
    words: str = ""

    @property
    def meaning(self) -> tuple[object, ...]:
        """What must change before it is told again."""
        return self.code, *sorted((name, value) for name, value in self.parameters.items() if name in _TELLING)


class Said(_Value):
    """What the scheduler said of the pod: observed, where all the rest is computed."""

    pod: str
    reason: str
    message: str
    since: str = ""


class Record(_Value):
    """All that is kept. `number` counts the records of one claim, `since` is when the wait began (RFC 3339)."""

    api_version: str = API_VERSION
    kind: str = KIND
    number: int = 1
    since: str = ""
    written: str = ""
    verdict: str
    reasons: tuple[Cause, ...]
    funnel: tuple[Mapping[str, Any], ...] = ()
    nearest: Mapping[str, Any] | None = None
    conditions: tuple[Mapping[str, Any], ...] = ()
    suggestions: tuple[Mapping[str, Any], ...] = ()
    observed: Said | None = None

    @property
    def meaning(self) -> tuple[object, ...]:
        """What must change before it is written again."""
        return self.verdict, *(cause.meaning for cause in self.reasons)

    @property
    def code(self) -> str:
        """The first reason."""
        return self.reasons[0].code if self.reasons else self.verdict

    def text(self) -> str:
        """As it stands on the claim, cut to a size that an annotation bears well."""
        kept = self
        for name in (None, *_LEAST_NEEDED):
            if name is not None:
                kept = kept.model_copy(update={name: Record.model_fields[name].default})
            text = kept.model_dump_json(by_alias=True, exclude_defaults=False, exclude_none=True)
            if len(text.encode()) <= _LONGEST:
                return text
        return kept.model_copy(update={"reasons": kept.reasons[:1], "observed": None}).model_dump_json(by_alias=True)


def read_record(text: str | None) -> Record | None:
    """Read what stands on a claim; None where that is nothing of ours."""
    if text is None:
        return None
    try:
        record = Record.model_validate_json(text)
    except ValidationError:
        return None
    return record if (record.api_version, record.kind) == (API_VERSION, KIND) else None


def does_not_fit(explanation: Explanation, suggestions: tuple[Suggestion, ...], pod: PodNews) -> Record:
    """The record of a claim that no node takes, or of which that cannot be told. It names no other tenant's objects."""
    told = wire(explanation, suggestions, names=False)
    return Record(
        verdict=str(explanation.verdict),
        reasons=tuple(Cause.model_validate(one) for one in told["reasons"]),
        funnel=tuple(told["funnel"]),
        nearest=told["nearest"],
        conditions=tuple(told["conditions"]),
        suggestions=tuple(told["suggestions"]),
        observed=_said(pod),
    )


def fits(explanation: Explanation, pod: PodNews) -> Record:
    """The record of a claim for which there are cards, while its pod waits for something else."""
    nodes = len(explanation.placements)
    words = f"cards on {nodes} {'node' if nodes == 1 else 'nodes'} would do: the pod waits for something else"
    cause = Cause(code=Why.NOT_SCHEDULED, parameters={"nodes": nodes}, words=words)
    return Record(verdict=str(Verdict.FITS), reasons=(cause,), observed=_said(pod))


def not_prepared(unready: tuple[Unready, ...]) -> Record:
    """The record of a claim that has its cards, which the node cannot prepare: the reason is the node's."""
    causes = tuple(
        Cause(
            code=Why.NOT_PREPARED,
            parameters={"reason": one.reason, "device": one.device},
            words=f"{one.reason}: {one.message}",
        )
        for one in unready[:4]
    )
    return Record(verdict=Why.NOT_PREPARED, reasons=causes)


def _said(pod: PodNews) -> Said | None:
    observed = pod.observed
    if observed is None:
        return None
    message = observed.message.encode()[:_LONGEST_MESSAGE].decode(errors="ignore")
    return Said(pod=pod.name, reason=observed.reason, message=message, since=observed.since)
