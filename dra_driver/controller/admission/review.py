"""AdmissionReview v1, in and out: the one place that knows its form.

Whoever reaches the port can send one, so every byte is treated as hostile: what is not exactly a review is refused with
the field's path, and nothing of it is believed beyond its types.
Source: k8s.io/api/admission/v1/types.go (1.37).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from dra_driver.errors import ObjectRejected
from dra_driver.kube.claims import dotted

API_VERSION = "admission.k8s.io/v1"
JsonObject = dict[str, Any]

# The API server cuts a warning at this length, and what is said to a user should be read.
_LONGEST_WARNING = 256
_MOST_WARNINGS = 10
_LONGEST_MESSAGE = 2048
# A namespace becomes part of a URL, so it is held to what Kubernetes allows for one.
_LABEL = r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$"


class Operation(StrEnum):
    """What is done to the object."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


@dataclass(frozen=True)
class Review:
    """One question of the API server. `new` is None on DELETE, `old` is None on CREATE.

    `kind` and `version` are those of the objects as they are here. `namespace` is empty for cluster-wide objects. A dry
    run is answered like any other, as nothing here has side effects; whoever answers must keep it so.
    """

    uid: str
    group: str
    version: str
    kind: str
    operation: Operation
    namespace: str
    name: str
    dry_run: bool
    user: str
    new: Mapping[str, Any] | None
    old: Mapping[str, Any] | None

    @property
    def subject(self) -> str:
        """The object in words. An object without a name gets one later."""
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name or '(to be named)'}"


@dataclass(frozen=True)
class Refusal:
    """Why not: `reason` is one of a closed set (it labels a metric), the message is for who asked."""

    reason: str
    message: str
    status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY


@dataclass(frozen=True)
class Warned:
    """What is allowed and probably not meant: kubectl shows it."""

    reason: str
    message: str


@dataclass(frozen=True)
class Answer:
    """What becomes of the request. `patch` (JSON patch operations) is only for mutation, and only without refusal."""

    refusal: Refusal | None = None
    warnings: tuple[Warned, ...] = ()
    patch: tuple[JsonObject, ...] = ()


ALLOWED = Answer()


class Reviewer(Protocol):
    """Who answers. Without side effects: the API server may ask twice, or only try."""

    async def review(self, review: Review) -> Answer:
        """Answer one question. Raises HamiDraError when it cannot be answered: the failure policy then decides."""
        ...


class _Wire(BaseModel):
    model_config = ConfigDict(
        extra="ignore", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=False
    )


Text = Annotated[str, Field(max_length=253)]


class _Kind(_Wire):
    group: Text = ""
    version: Text
    kind: Text


class _User(_Wire):
    username: str = ""


class _Request(_Wire):
    uid: Annotated[str, Field(min_length=1, max_length=128)]
    kind: _Kind
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    name: Text = ""
    namespace: Annotated[str, Field(pattern=_LABEL)] = ""
    user_info: _User = _User()
    dry_run: bool | None = None
    object_: Annotated[dict[str, Any] | None, Field(alias="object")] = None
    old_object: dict[str, Any] | None = None


class _Review(_Wire):
    api_version: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: _Request


def parse_review(body: bytes) -> Review:
    """Read what was posted. Raises ObjectRejected with the path of the field."""
    try:
        request = _Review.model_validate(json.loads(body)).request
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ObjectRejected("AdmissionReview", dotted(first["loc"]), first["msg"]) from error
    except (ValueError, RecursionError) as error:
        raise ObjectRejected("AdmissionReview", "(body)", f"not JSON: {error}") from error
    return Review(
        uid=request.uid,
        group=request.kind.group,
        version=request.kind.version,
        kind=request.kind.kind,
        operation=Operation(request.operation),
        namespace=request.namespace,
        name=request.name,
        dry_run=request.dry_run is True,
        user=request.user_info.username,
        new=request.object_,
        old=request.old_object,
    )


def write_answer(uid: str, answer: Answer) -> bytes:
    """Write the review that answers the request with that UID."""
    response: JsonObject = {"uid": uid, "allowed": answer.refusal is None}
    if answer.refusal is not None:
        response["status"] = _status(answer.refusal)
    elif answer.patch:
        patch = base64.b64encode(json.dumps(answer.patch).encode()).decode()
        response |= {"patchType": "JSONPatch", "patch": patch}
    if answer.warnings:
        response["warnings"] = _texts(answer.warnings)
    return json.dumps({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}).encode()


def _status(refusal: Refusal) -> JsonObject:
    reason = "Forbidden" if refusal.status is HTTPStatus.FORBIDDEN else "Invalid"
    return {"code": int(refusal.status), "reason": reason, "message": _cut(refusal.message, _LONGEST_MESSAGE)}


def _texts(warnings: tuple[Warned, ...]) -> list[str]:
    texts = [_cut(one.message, _LONGEST_WARNING) for one in warnings[:_MOST_WARNINGS]]
    more = len(warnings) - _MOST_WARNINGS
    return [*texts, f"and {more} more of the kind"] if more > 0 else texts


def _cut(text: str, most: int) -> str:
    """Shorten, and leave nothing in it that would not go into a header or onto a terminal."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[:most])
    return text if len(text) < most else f"{text[: most - 1]}…"
