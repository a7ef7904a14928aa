"""Keeps a replica that has lost the Lease from writing: it may not know it yet, and another may already be at work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from dra_driver.controller.lease import Leadership
from dra_driver.kube.connection import Connection, JsonObject


class FencedConnection:
    """A Connection that reads always, and writes only while this replica leads (raises NotLeading otherwise)."""

    def __init__(self, connection: Connection, leadership: Leadership) -> None:
        self._connection = connection
        self._leadership = leadership

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
        if method == "GET":
            return await self._connection.request(method, path, query=query)
        async with self._leadership.fence():
            return await self._connection.request(method, path, query=query, body=body, content_type=content_type)

    def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """See Connection."""
        return self._connection.watch(path, query=query)
