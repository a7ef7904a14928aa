"""Counts what the controller asks of the API server: by verb and resource as RBAC knows them, and by answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

from dra_driver.controller.metrics import Metrics
from dra_driver.kube.connection import Connection, JsonObject
from dra_driver.kube.errors import KubeError

_PATH = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+"
    r"(?:/namespaces/[^/]+(?=/[^/]))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OTHER = "other"


class CountedConnection:
    """A Connection, counted."""

    def __init__(self, connection: Connection, metrics: Metrics) -> None:
        self._connection = connection
        self._metrics = metrics

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        """See Connection."""
        code = 0
        try:
            answer = await self._connection.request(method, path, query=query, body=body, content_type=content_type)
            code = 200
            return answer
        except KubeError as error:
            code = error.status
            raise
        finally:
            self._metrics.called(verb_of(method, path), resource_of(path), code)

    async def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """See Connection."""
        self._metrics.called("watch", resource_of(path), 200)
        async for event in self._connection.watch(path, query=query):
            yield event


def verb_of(method: str, path: str, *, watches: bool = False) -> str:
    """Name what a request does."""
    if method != "GET":
        return _VERBS.get(method, _OTHER)
    if watches:
        return "watch"
    match = _PATH.fullmatch(path)
    return "get" if match is None or match["name"] else "list"


def resource_of(path: str) -> str:
    """Name the resource that a path is about, as `resourceclaims` or `resourceclaims/status`; never an object."""
    match = _PATH.fullmatch(path)
    if match is None:
        return _OTHER
    return f"{match['plural']}/{match['sub']}" if match["sub"] else match["plural"]
