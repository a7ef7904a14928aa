"""The answers of the API server as errors of ours."""

from __future__ import annotations

import pytest

from dra_driver.errors import HamiDraError
from dra_driver.kube.errors import Conflict, Expired, Forbidden, Invalid, KubeError, NotFound, from_status


@pytest.mark.parametrize(
    ("status", "kind", "retriable"),
    [
        (400, Invalid, False),
        (401, Forbidden, True),
        (403, Forbidden, True),
        (404, NotFound, False),
        (409, Conflict, True),
        (410, Expired, True),
        (422, Invalid, False),
        (429, KubeError, True),
        (500, KubeError, True),
        (503, KubeError, True),
    ],
)
def test_a_status_becomes_the_error_that_tells_whether_to_try_again(
    status: int, kind: type[KubeError], retriable: bool
) -> None:
    error = from_status("GET /x", status, "why")
    assert type(error) is kind
    assert error.retriable is retriable
    assert error.status == status
    assert str(error) == f"GET /x: {status}: why"
    assert isinstance(error, HamiDraError)


def test_no_answer_is_said_in_words() -> None:
    assert str(KubeError("GET /x", 0, "connection refused")) == "GET /x: no answer: connection refused"
