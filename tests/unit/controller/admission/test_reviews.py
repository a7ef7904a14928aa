"""What is posted is read strictly, whoever posts it; what is answered has the form that the API server wants."""

from __future__ import annotations

import base64
import contextlib
import json
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dra_driver.controller.admission.review import Answer, Refusal, Warned, parse_review, write_answer
from dra_driver.errors import ObjectRejected
from tests.unit.controller.admission.asking import UID, claim, question, review


def answered(answer: Answer) -> dict[str, Any]:
    """The response to a request."""
    written = json.loads(write_answer(UID, answer))
    assert (written["apiVersion"], written["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = written["response"]
    assert response["uid"] == UID
    return response


def test_a_review_is_read() -> None:
    read = review(claim(), dryRun=True)
    assert (read.kind, read.version, read.operation, read.namespace, read.user) == (
        *("ResourceClaim", "v1", "CREATE", "team-a", "alice"),
    )
    assert read.dry_run
    assert read.subject == "ResourceClaim team-a/train"


def test_an_object_that_is_named_later_has_words_too() -> None:
    assert review(claim(), name="").subject == "ResourceClaim team-a/(to be named)"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"uid": ""}, "request.uid"),
        ({"uid": "x" * 1000}, "request.uid"),
        ({"uid": 7}, "request.uid"),
        ({"operation": "PATCH"}, "request.operation"),
        ({"namespace": "../../../api/v1/secrets"}, "request.namespace"),
        ({"namespace": "a" * 64}, "request.namespace"),
        ({"namespace": "team-a\n"}, "request.namespace"),
        ({"object": []}, "request.object"),
        ({"object": "claim"}, "request.object"),
        ({"kind": None}, "request.kind"),
        ({"dryRun": "no"}, "request.dryRun"),
    ],
)
def test_a_field_of_another_form_is_refused_by_its_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(ObjectRejected) as refused:
        review(claim(), **change)
    assert refused.value.path == path


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"AdmissionReview"',
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}',
    ],
)
def test_what_is_no_review_is_refused(body: bytes) -> None:
    with pytest.raises(ObjectRejected):
        parse_review(body)


@settings(max_examples=50)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_body_breaks_the_reading(body: bytes | str) -> None:
    with pytest.raises(ObjectRejected):
        parse_review(body.encode() if isinstance(body, str) else body)


@given(st.sampled_from(list(question(claim())["request"])), st.none() | st.integers() | st.text() | st.just([]))
def test_no_field_breaks_the_reading(name: str, value: object) -> None:
    wire = question(claim())
    wire["request"][name] = value
    with contextlib.suppress(ObjectRejected):
        assert parse_review(json.dumps(wire).encode()).kind == "ResourceClaim"


def test_nothing_to_say_is_a_plain_yes() -> None:
    assert answered(Answer()) == {"uid": UID, "allowed": True}


def test_a_refusal_says_why_and_of_which_kind() -> None:
    bad = answered(Answer(Refusal("BadConfig", "spec.x: is wrong")))
    assert bad["status"] == {"code": 422, "reason": "Invalid", "message": "spec.x: is wrong"}
    assert not bad["allowed"]
    denied = answered(Answer(Refusal("Priority", "no", HTTPStatus.FORBIDDEN)))
    assert (denied["status"]["code"], denied["status"]["reason"]) == (403, "Forbidden")


def test_a_patch_is_a_json_patch_and_none_comes_with_a_refusal() -> None:
    patch = ({"op": "add", "path": "/metadata/labels", "value": {}},)
    written = answered(Answer(patch=patch))
    assert written["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(written["patch"])) == list(patch)
    assert "patch" not in answered(Answer(Refusal("No", "no"), patch=patch))


def test_warnings_fit_into_headers_and_are_not_too_many() -> None:
    many = tuple(Warned("Large", f"number {index}\r\nSet-Cookie: x" + "y" * 300) for index in range(12))
    written = answered(Answer(warnings=many))["warnings"]
    assert len(written) == 11
    assert written[-1] == "and 2 more of the kind"
    assert all(len(text) <= 256 and text.isprintable() for text in written)


def test_a_message_with_much_of_the_users_text_is_cut() -> None:
    assert len(answered(Answer(Refusal("BadConfig", "x" * 100_000)))["status"]["message"]) <= 2048
