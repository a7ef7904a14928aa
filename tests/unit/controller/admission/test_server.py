"""The webhook server over a real TLS connection: hostile callers, mistakes of ours, certificates that change."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from dra_driver.controller.admission.certificates import Generation, make_generation, utc_now
from dra_driver.controller.admission.metrics import AdmissionMetrics
from dra_driver.controller.admission.review import ALLOWED, Answer, Refusal, Review, Warned
from dra_driver.controller.admission.server import AdmissionServer, ServerCertificate
from dra_driver.controller.admission.sources import CertificateUnusable, FolderSource
from dra_driver.errors import SettingsRejected
from dra_driver.kube.errors import KubeError
from tests.unit.controller.admission.asking import UID, claim, question

Decide = Callable[[Review], Answer]


class Reviewing:
    """Answers as a test wants it."""

    def __init__(self, decide: Decide) -> None:
        self.decide = decide
        self.asked: list[Review] = []
        self.begun = asyncio.Event()
        self.going_on = asyncio.Event()
        self.going_on.set()

    async def review(self, review: Review) -> Answer:
        self.asked.append(review)
        self.begun.set()
        await self.going_on.wait()
        return self.decide(review)


class Served:
    """A server and what a caller needs."""

    def __init__(
        self, decide: Decide = lambda _: ALLOWED, *, seconds: float = 30.0, leaving_seconds: float = 0.0
    ) -> None:
        self.generation = generation()
        self.reviewing = Reviewing(decide)
        self.certificate = ServerCertificate()
        self.certificate.use(self.generation.serving)
        self.registry = CollectorRegistry()
        self.server = AdmissionServer(
            "127.0.0.1:0",
            reviewers={"validate": self.reviewing},
            certificate=self.certificate,
            metrics=AdmissionMetrics(self.registry),
            seconds=seconds,
            leaving_seconds=leaving_seconds,
        )
        self.url = ""

    async def post(self, body: bytes | None = None, *, path: str = "validate", trusting: bytes = b"") -> Any:
        """One call over a connection of its own; the status and the answer."""
        sent = json.dumps(question(claim())).encode() if body is None else body
        context = ssl.create_default_context(cadata=(trusting or self.generation.authority).decode())
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/{path}", data=io.BytesIO(sent), ssl=context) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if answer.status == 200 else text

    def counted(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def generation() -> Generation:
    return make_generation(["127.0.0.1"], now=utc_now(), lifetime=timedelta(hours=1))


@asynccontextmanager
async def serving(*arguments: Any, **options: Any) -> AsyncIterator[Served]:
    served = Served(*arguments, **options)
    served.url = f"https://{await served.server.start()}"
    try:
        yield served
    finally:
        await served.server.stop()


async def test_a_review_is_answered() -> None:
    async with serving() as served:
        status, answer = await served.post()
        assert (status, answer["response"]) == (200, {"uid": UID, "allowed": True})
        assert served.counted("vgpu_admission_requests_total", webhook="validate", outcome="allowed") == 1
        assert served.counted("vgpu_admission_request_duration_seconds_count", webhook="validate") == 1


async def test_refusals_and_warnings_are_counted_by_their_reasons() -> None:
    async with serving(lambda _: Answer(Refusal("BadConfig", "spec: no"), (Warned("Large", "hm"),))) as served:
        with capture_logs() as logs:
            _, answer = await served.post()
        assert answer["response"]["status"]["message"] == "spec: no"
        assert served.counted("vgpu_admission_refusals_total", webhook="validate", reason="BadConfig") == 1
        assert served.counted("vgpu_admission_warnings_total", webhook="validate", reason="Large") == 1
        assert served.counted("vgpu_admission_requests_total", webhook="validate", outcome="refused") == 1
        (told,) = [entry for entry in logs if entry["event"] == "refused"]
        assert (told["object"], told["reason"]) == ("ResourceClaim team-a/train", "BadConfig")


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 50_000, b"\xff", b'{"request":null}'], ids=range(5))
async def test_what_is_no_review_is_turned_away_before_anybody_looks(body: bytes) -> None:
    async with serving() as served:
        assert (await served.post(body))[0] == 400
        assert served.reviewing.asked == []
        assert served.counted("vgpu_admission_requests_total", webhook="validate", outcome="error") == 1
        assert (await served.post())[0] == 200, "others are answered as before"


async def test_too_large_a_body_is_turned_away() -> None:
    async with serving() as served:
        assert (await served.post(b" " * (8 * 1024 * 1024)))[0] == 413
        assert (await served.post())[0] == 200


async def test_a_review_as_large_as_the_api_server_sends_is_read() -> None:
    wire = question(claim())
    wire["request"]["object"]["metadata"]["annotations"] = {"large": "x" * (6 * 1024 * 1024)}
    async with serving() as served:
        assert (await served.post(json.dumps(wire).encode()))[0] == 200


async def test_a_body_that_never_ends_is_given_up() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with serving(seconds=0.2) as served:
        context = ssl.create_default_context(cadata=served.generation.authority.decode())
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{served.url}/validate", data=endless(), ssl=context) as answer,
        ):
            assert answer.status == 504


@pytest.mark.parametrize("error", [KubeError("GET", 0, "no answer"), ZeroDivisionError("a mistake")])
async def test_what_cannot_be_answered_is_an_http_error_and_never_a_yes(error: Exception) -> None:
    def fail(_: Review) -> Answer:
        raise error

    async with serving(fail) as served:
        with capture_logs() as logs:
            status, text = await served.post()
        assert status == 500
        assert "mistake" not in text
        assert any(entry["event"] in ("review_failed", "review_broke") for entry in logs)
        assert served.counted("vgpu_admission_requests_total", webhook="validate", outcome="error") == 1


@pytest.mark.parametrize("path", ["", "mutate", "validate/../../etc/passwd", "metrics"])
async def test_there_is_nothing_else_to_see(path: str) -> None:
    async with serving() as served:
        assert (await served.post(path=path))[0] == 404


async def test_a_new_certificate_is_served_to_the_next_connection_and_open_ones_go_on() -> None:
    async with serving() as served:
        old, new = served.generation, generation()
        context = ssl.create_default_context(cadata=old.authority.decode())
        body = json.dumps(question(claim())).encode()
        connector = aiohttp.TCPConnector(limit=1, ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.post(f"{served.url}/validate", data=body) as answer:
                assert answer.status == 200
                await answer.read()
            assert served.certificate.use(new.serving)
            assert not served.certificate.use(new.serving), "nothing new"
            async with session.post(f"{served.url}/validate", data=body) as answer:
                assert answer.status == 200, "over the open connection"
                await answer.read()
        assert (await served.post(trusting=new.authority))[0] == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await served.post(trusting=old.authority)


async def test_a_certificate_without_its_key_changes_nothing() -> None:
    async with serving() as served:
        other = generation().serving
        for bad in (type(other)(other.certificate, served.generation.serving.key), type(other)(b"", b"")):
            with pytest.raises(CertificateUnusable):
                served.certificate.use(bad)
        assert (await served.post())[0] == 200


async def test_what_is_being_answered_is_finished_before_the_end() -> None:
    async with serving() as served:
        served.reviewing.going_on.clear()
        waiting = asyncio.create_task(served.post())
        await served.reviewing.begun.wait()
        stopping = asyncio.create_task(served.server.stop())
        await asyncio.sleep(0.05)
        served.reviewing.going_on.set()
        assert (await waiting)[0] == 200
        await stopping


async def test_callers_are_asked_to_go_elsewhere_before_the_end_and_still_get_their_answer() -> None:
    async with serving(leaving_seconds=3600) as served:
        stopping = asyncio.create_task(served.server.stop())
        await asyncio.sleep(0)
        context = ssl.create_default_context(cadata=served.generation.authority.decode())
        body = json.dumps(question(claim())).encode()
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(f"{served.url}/validate", data=body, ssl=context) as answer:
                    assert answer.status == 200
                    assert answer.headers["Connection"] == "close"
        stopping.cancel()
        served.server._leaving_seconds = 0.0


async def test_an_address_that_cannot_be_had_names_the_setting() -> None:
    async with serving() as served:
        taken = AdmissionServer(
            served.url.removeprefix("https://"),
            reviewers={},
            certificate=served.certificate,
            metrics=AdmissionMetrics(CollectorRegistry()),
        )
        with pytest.raises(SettingsRejected, match="setting admission_address"):
            await taken.start()


async def test_files_are_served_when_they_make_sense(tmp_path: Path) -> None:
    source, made = FolderSource(tmp_path), generation()
    with pytest.raises(CertificateUnusable, match=r"tls\.crt"):
        await source.current()
    (tmp_path / "tls.crt").write_bytes(made.serving.certificate)
    (tmp_path / "tls.key").write_bytes(generation().serving.key)
    with pytest.raises(CertificateUnusable, match="is not the key of"):
        await source.current()
    (tmp_path / "tls.key").write_bytes(made.serving.key)
    assert await source.current() == made.serving
