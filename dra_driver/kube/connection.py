"""HTTP to the API server in plain dicts.

Generated models of a client library drop the fields that they do not know, and a driver that writes back what it
read would erase a newer server's fields; so objects stay as they come, and there is no such library here.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

from dra_driver.kube.credentials import Credentials, read_credentials
from dra_driver.kube.errors import KubeError, from_status

JsonObject = dict[str, Any]

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

_REQUEST_SECONDS = 30.0
# The server ends a watch after this long; the read time-out lies above it, so that a dead connection is noticed.
WATCH_SECONDS = 240


class Connection(Protocol):
    """What the rest of this package needs of the API server; tests put a server of their own behind it."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        """Send one request and return the decoded answer. Raises KubeError."""
        ...

    def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """Yield watch events `{"type", "object"}` until the server ends the watch. Raises KubeError."""
        ...


class ServerConnection:
    """A connection by the pod's service account, or by a kubeconfig file where one is named."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=credentials.tls or True),
            # Nothing but what the credentials say: no proxy, no .netrc, no cookies.
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @classmethod
    async def open(cls, kubeconfig: str = "") -> Self:
        """Read the credentials and make a connection; nothing is sent yet.

        Raises:
            SettingsRejected: there is neither a usable kubeconfig nor a service account.
        """
        return cls(await asyncio.to_thread(read_credentials, kubeconfig, os.environ))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

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
        limits = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        response = await self._send(method, path, query or {}, body, content_type, limits)
        try:
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise KubeError(f"{method} {path}", 0, _words(error)) from error
        return _decode(f"{method} {path}", response.status, text)

    async def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """See Connection."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_REQUEST_SECONDS, sock_read=WATCH_SECONDS + 30)
        query = {**query, "watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        response = await self._send("GET", path, query, None, "application/json", limits)
        name = f"WATCH {path}"
        try:
            if response.status >= 300:
                _decode(name, response.status, await response.read())
            async for line in _lines(response.content):
                yield _event(name, line)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise KubeError(name, 0, _words(error)) from error
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: JsonObject | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        try:
            headers = {"Accept": "application/json", "Content-Type": content_type}
            if token := self._credentials.token():
                headers["Authorization"] = f"Bearer {token}"
            return await self._session.request(
                method,
                self._credentials.server + path,
                params=query,
                data=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=limits,
            )
        except (aiohttp.ClientError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            raise KubeError(f"{method} {path}", 0, _words(error)) from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a stream into lines of any length (the reader's own readline has a limit of 64 KiB)."""
    pending = bytearray()
    async for chunk in content.iter_any():
        pending += chunk
        while (end := pending.find(b"\n")) >= 0:
            yield bytes(pending[:end])
            del pending[: end + 1]


def _event(name: str, line: bytes) -> JsonObject:
    event = _json(name, 200, line)
    if event.get("type") == "ERROR":
        status = event.get("object") or {}
        raise from_status(name, int(status.get("code") or 0), str(status.get("message", "")))
    return event


def _decode(name: str, status: int, text: bytes) -> JsonObject:
    if status < 300:
        return _json(name, status, text)
    try:
        message = str(json.loads(text).get("message", ""))
    except (ValueError, AttributeError):
        message = text[:200].decode(errors="replace")
    raise from_status(name, status, message)


def _json(name: str, status: int, text: bytes) -> JsonObject:
    try:
        decoded = json.loads(text)
    except ValueError as error:
        raise KubeError(name, status, f"not JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise KubeError(name, status, "not a JSON object")
    return decoded


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
