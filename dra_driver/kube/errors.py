"""What the API server can answer, as errors of our own."""

from __future__ import annotations

from http import HTTPStatus

from dra_driver.errors import HamiDraError


class KubeError(HamiDraError):
    """The API server refused or did not answer. `status` is 0 where there was no answer."""

    retriable = True

    def __init__(self, request: str, status: int, message: str) -> None:
        super().__init__(f"{request}: {status or 'no answer'}: {message}")
        self.status = status
        self.message = message


class NotFound(KubeError):
    """The object is not there (404)."""

    retriable = False


class Conflict(KubeError):
    """The object changed or exists already (409)."""


class Expired(KubeError):
    """The resource version of a watch is too old (410): list again."""


class Invalid(KubeError):
    """The object was refused by validation (422) or could not be read (400)."""

    retriable = False


class Forbidden(KubeError):
    """Not authenticated or not allowed (401, 403). Retriable: rights may be granted."""


_BY_STATUS: dict[int, type[KubeError]] = {
    HTTPStatus.BAD_REQUEST: Invalid,
    HTTPStatus.UNAUTHORIZED: Forbidden,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Expired,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
}


def from_status(request: str, status: int, message: str) -> KubeError:
    """Choose the error for an HTTP status."""
    return _BY_STATUS.get(status, KubeError)(request, status, message)
