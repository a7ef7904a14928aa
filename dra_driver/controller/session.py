"""The connection on which kopf watches: our credentials, and an ear on what is listed and when a watch begins.

kopf shows single objects, each through a queue and a task of its own. That a listing began and ended it tells nobody,
but without that a replica cannot say when it knows everything, nor notice what was deleted while no watch was open. So
listings are read here, and kopf is shown that they are over: what it watches are changes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import aiohttp

from dra_driver.controller.counting import resource_of, verb_of
from dra_driver.controller.metrics import Metrics
from dra_driver.controller.observing import Kind
from dra_driver.kube.credentials import Credentials

_REFUSED_SECONDS = 1.0


class Hearing(Protocol):
    """Who hears of listings and watches."""

    def heard_page(self, kind: Kind, wires: Sequence[Mapping[str, Any]], *, first: bool, ended_at: str | None) -> None:
        """A page of a listing was read; the last one says as of which resource version the listing is true."""
        ...

    def heard_watch(self, kind: Kind) -> None:
        """The server has taken up a watch."""
        ...


class Ear:
    """A middleware of the HTTP client; see the module."""

    def __init__(
        self, credentials: Credentials, kinds_by_path: Mapping[str, Kind], hearing: Hearing, metrics: Metrics
    ) -> None:
        self._credentials = credentials
        self._kinds = kinds_by_path
        self._hearing = hearing
        self._metrics = metrics

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request with a token that is valid now, and hear what comes of it."""
        if token := self._credentials.token():
            request.headers["Authorization"] = f"Bearer {token}"
        watches = request.url.query.get("watch") == "true"
        verb, resource = verb_of(request.method, request.url.path, watches=watches), resource_of(request.url.path)
        try:
            response = await handler(request)
        except Exception:
            self._metrics.called(verb, resource, 0)
            raise
        self._metrics.called(verb, resource, response.status)
        if response.status == HTTPStatus.UNAUTHORIZED:
            # kopf logs in again at once, and there is nothing else to log in with.
            await asyncio.sleep(_REFUSED_SECONDS)
        kind = self._kinds.get(request.url.path)
        if kind is not None and response.status == HTTPStatus.OK:
            await self._hear(kind, request, response, watches=watches)
        return response

    async def _hear(
        self, kind: Kind, request: aiohttp.ClientRequest, response: aiohttp.ClientResponse, *, watches: bool
    ) -> None:
        if watches:
            self._hearing.heard_watch(kind)
            return
        page = json.loads(await response.read())
        wires = [_named(page, wire) for wire in page.get("items") or ()]
        metadata = page.get("metadata") or {}
        ended_at = None if metadata.get("continue") else str(metadata.get("resourceVersion", ""))
        self._hearing.heard_page(kind, wires, first="continue" not in request.url.query, ended_at=ended_at)
        assert isinstance(response, _Response)
        response.shown = {**page, "items": []}


class _Response(aiohttp.ClientResponse):
    """An answer of which kopf may be shown something else than what was read here."""

    shown: Mapping[str, Any] | None = None

    async def json(self, **how: Any) -> Any:
        """See ClientResponse."""
        return await super().json(**how) if self.shown is None else self.shown


def _named(page: Mapping[str, Any], wire: dict[str, Any]) -> Mapping[str, Any]:
    """Give an item of a list the kind and the version that only the list names."""
    kind = str(page.get("kind", "")).removesuffix("List")
    return {"apiVersion": page.get("apiVersion", ""), "kind": kind, **wire}


def listening_session(credentials: Credentials, ear: Ear) -> aiohttp.ClientSession:
    """Make a session for kopf, which closes it; to be called on kopf's event loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=credentials.tls or True, limit=0),
        # Nothing but what the credentials say: no proxy, no .netrc, no cookies.
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(ear,),
        response_class=_Response,
    )
