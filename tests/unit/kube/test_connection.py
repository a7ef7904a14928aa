"""The connection to a real HTTP server on the loopback interface, with credentials from a kubeconfig."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from dra_driver.errors import SettingsRejected
from dra_driver.kube.connection import WATCH_SECONDS, ServerConnection
from dra_driver.kube.errors import Conflict, Expired, Forbidden, Invalid, KubeError, NotFound

TOKEN = "a-token-of-the-plugin"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """Answers whatever a test says, and remembers what it was asked."""

    url: str = ""
    answer: Answer | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "authorization": request.headers.get("Authorization"),
                "content_type": request.headers.get("Content-Type"),
                "body": json.loads(body) if body else None,
            }
        )
        assert self.answer is not None
        return await self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    one = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    one.url = f"http://{host}:{port}"
    yield one
    await runner.cleanup()


def kubeconfig(folder: Path, url: str) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
async def connection(server: Server, tmp_path: Path) -> AsyncIterator[ServerConnection]:
    async with await ServerConnection.open(kubeconfig(tmp_path, server.url)) as one:
        yield one


def says(body: object, status: int = 200) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


def streams(*chunks: bytes, broken: bool = False) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if broken:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


async def events(connection: ServerConnection) -> list[dict[str, Any]]:
    return [event async for event in connection.watch("/apis/x/v1/things", query={"resourceVersion": "7"})]


def line(name: str, kind: str = "ADDED") -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"name": name}}}).encode() + b"\n"


async def test_a_request_carries_the_token_the_query_and_the_body(server: Server, connection: ServerConnection) -> None:
    server.answer = says({"kind": "Thing", "novelty": {"kept": [1, 2]}})
    answer = await connection.request(
        "POST", "/apis/x/v1/things", query={"fieldManager": "me"}, body={"a": {"b": None}}
    )
    assert answer == {"kind": "Thing", "novelty": {"kept": [1, 2]}}
    assert server.requests == [
        {
            "method": "POST",
            "path": "/apis/x/v1/things",
            "query": {"fieldManager": "me"},
            "authorization": f"Bearer {TOKEN}",
            "content_type": "application/json",
            "body": {"a": {"b": None}},
        }
    ]


async def test_a_query_with_reserved_characters_arrives_as_it_was_given(
    server: Server, connection: ServerConnection
) -> None:
    server.answer = says({})
    selector = "spec.driver=vgpu.hami.io,spec.nodeName=node-a"
    await connection.request("GET", "/apis/x/v1/things", query={"fieldSelector": selector})
    assert server.requests[0]["query"] == {"fieldSelector": selector}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_every_method_can_carry_a_body(server: Server, connection: ServerConnection, method: str) -> None:
    server.answer = says({"kind": "Status"})
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    await connection.request(method, "/apis/x/v1/things/a", body={"x": 1}, content_type=content_type)
    assert server.requests[0]["method"] == method
    assert server.requests[0]["body"] == {"x": 1}
    assert server.requests[0]["content_type"] == content_type


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Expired),
        (422, Invalid),
    ],
)
async def test_a_refusal_becomes_an_error_with_the_servers_message(
    server: Server, connection: ServerConnection, status: int, kind: type[KubeError]
) -> None:
    server.answer = says({"kind": "Status", "code": status, "message": "the reason"}, status)
    with pytest.raises(kind) as caught:
        await connection.request("GET", "/apis/x/v1/things/a")
    assert str(caught.value) == f"GET /apis/x/v1/things/a: {status}: the reason"


async def test_a_refusal_that_is_not_json_is_shown_in_part(server: Server, connection: ServerConnection) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>bad gateway</html>" + "x" * 5000)

    server.answer = answer
    with pytest.raises(KubeError, match="502: <html>bad gateway") as caught:
        await connection.request("GET", "/x")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["not json", "[1, 2]"])
async def test_an_answer_that_is_no_object_is_an_error(server: Server, connection: ServerConnection, text: str) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    server.answer = answer
    with pytest.raises(KubeError, match="not"):
        await connection.request("GET", "/x")


async def test_a_dropped_connection_is_an_error_without_status(server: Server, connection: ServerConnection) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.answer = answer
    with pytest.raises(KubeError) as caught:
        await connection.request("GET", "/x")
    assert caught.value.status == 0
    assert caught.value.retriable


async def test_a_server_that_is_not_there_is_an_error_without_status(tmp_path: Path) -> None:
    async with await ServerConnection.open(kubeconfig(tmp_path, "http://127.0.0.1:1")) as connection:
        with pytest.raises(KubeError) as caught:
            await connection.request("GET", "/x")
    assert caught.value.status == 0


async def test_a_watch_yields_events_however_the_stream_is_cut(server: Server, connection: ServerConnection) -> None:
    text = line("a") + line("b", "MODIFIED") + line("c", "DELETED")
    server.answer = streams(text[:10], text[10:75], text[75:])
    got = await events(connection)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in got] == [
        ("ADDED", "a"),
        ("MODIFIED", "b"),
        ("DELETED", "c"),
    ]
    assert server.requests[0]["query"] == {
        "resourceVersion": "7",
        "watch": "true",
        "timeoutSeconds": str(WATCH_SECONDS),
    }


async def test_a_watch_takes_lines_far_beyond_the_readers_own_limit(
    server: Server, connection: ServerConnection
) -> None:
    names = ["x" * 3_000_000, "y"]
    server.answer = streams(*(line(name) for name in names))
    assert [event["object"]["metadata"]["name"] for event in await events(connection)] == names


async def test_an_error_event_ends_the_watch_as_the_error_that_it_names(
    server: Server, connection: ServerConnection
) -> None:
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
    server.answer = streams(line("a"), json.dumps(error).encode() + b"\n", line("b"))
    stream = connection.watch("/apis/x/v1/things", query={})
    assert (await anext(stream))["object"]["metadata"]["name"] == "a"
    with pytest.raises(Expired, match="too old resource version"):
        await anext(stream)


async def test_an_error_event_without_a_status_is_still_an_error(server: Server, connection: ServerConnection) -> None:
    server.answer = streams(b'{"type": "ERROR"}\n')
    with pytest.raises(KubeError):
        await events(connection)


async def test_a_refused_watch_is_an_error(server: Server, connection: ServerConnection) -> None:
    server.answer = says({"kind": "Status", "code": 403, "message": "not yours"}, 403)
    with pytest.raises(Forbidden, match="not yours"):
        await events(connection)


async def test_a_watch_line_that_is_not_json_is_an_error(server: Server, connection: ServerConnection) -> None:
    server.answer = streams(b"garbage\n")
    with pytest.raises(KubeError, match="not JSON"):
        await events(connection)


async def test_a_watch_whose_connection_drops_is_an_error(server: Server, connection: ServerConnection) -> None:
    server.answer = streams(line("a"), broken=True)
    with pytest.raises(KubeError) as caught:
        await events(connection)
    assert caught.value.status == 0


async def test_a_watch_that_the_caller_leaves_lets_go_of_its_connection(
    server: Server, connection: ServerConnection
) -> None:
    gone = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line("a"))
        try:
            while True:
                await response.write(line("more"))
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    server.answer = answer
    stream = connection.watch("/apis/x/v1/things", query={})
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        await gone.wait()


async def test_a_kubeconfig_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsRejected, match=r"no credentials .* kubeconfig .*missing"):
        await ServerConnection.open(str(tmp_path / "missing"))


async def test_a_kubeconfig_that_is_no_kubeconfig_is_a_wrong_setting(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("current-context: nowhere\n")
    with pytest.raises(SettingsRejected, match="no credentials"):
        await ServerConnection.open(str(path))


async def test_outside_a_pod_and_without_kubeconfig_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsRejected, match="service account"):
        await ServerConnection.open()
