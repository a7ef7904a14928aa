"""Admission as a whole on one replica: it serves, follows its certificate, and takes what the watch shows."""

from __future__ import annotations

import asyncio
import base64
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

from dra_driver.controller.admission.admission import Admission
from dra_driver.controller.admission.certificates import Generation, make_generation, utc_now
from dra_driver.controller.admission.server import AdmissionServer
from dra_driver.controller.observing import Change, Kind
from dra_driver.controller.settings import ControllerSettings
from tests.unit.controller.admission.asking import claim, config, question
from tests.unit.controller.admission.objects_api import ObjectsApi
from tests.unit.controller.admission.test_reach import OURS, asking, device, of_class, piece
from tests.unit.controller.admission.test_rotation import MUTATING, SECRET, VALIDATING, webhook
from tests.waiting import eventually

# A sixtieth of it is how often things are looked at.
CERTIFICATE_SECONDS = 10.0
ALLOW = "vgpu.hami.io/allow-high-priority"


class Replica:
    """One replica's admission and the API server that it knows."""

    def __init__(self, **settings: Any) -> None:
        self.api = ObjectsApi(
            {
                SECRET: {"metadata": {"name": "hami-dra-admission"}},
                VALIDATING: {"webhooks": [webhook("a.vgpu.hami.io")]},
                MUTATING: {"webhooks": [webhook("b.vgpu.hami.io")]},
            }
        )
        chosen = ControllerSettings(
            pod_name="controller-0",
            admission_address="127.0.0.1:0",
            admission_names=("127.0.0.1",),
            admission_failure_policy="Fail",
            certificate_seconds=CERTIFICATE_SECONDS,
            **settings,
        )
        self.registry = CollectorRegistry()
        self.admission = Admission(chosen, self.api, self.api, self.registry)
        self.address = ""

    async def ask(self, wire: dict[str, Any], trusted: bytes) -> dict[str, Any]:
        """Ask as the API server does, over a new connection."""
        context = ssl.create_default_context(cadata=trusted.decode())
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"https://{self.address}/validate", json=question(wire), ssl=context) as answer,
        ):
            response: dict[str, Any] = json.loads(await answer.text())["response"]
            return response

    async def until_serving(self, generation: Generation) -> None:
        """Wait until it answers with that certificate."""
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.ask(claim(), generation.authority)
                    return
                except aiohttp.ClientConnectorCertificateError:
                    await asyncio.sleep(0.02)

    def trusted(self) -> set[bytes]:
        """The bundles of all webhooks."""
        webhooks = [one for path in (VALIDATING, MUTATING) for one in self.api.objects[path]["webhooks"]]
        return {base64.b64decode(one["clientConfig"].get("caBundle", "")) for one in webhooks}

    async def until_trusted(self, bundle: bytes = b"") -> bytes:
        """Wait until all webhooks trust this bundle, or any."""
        await until(lambda: self.trusted() == {bundle} if bundle else len(self.trusted() - {b""}) == 1)
        (found,) = self.trusted()
        return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait without keeping the replica from its work."""
    await asyncio.to_thread(eventually, condition, what="what the test waits for", timeout=30, every=0.02)


@asynccontextmanager
async def working(replica: Replica) -> AsyncIterator[Replica]:
    """Serve and lead."""
    with capture_logs() as logs:
        tasks = [asyncio.create_task(replica.admission.run()), asyncio.create_task(replica.admission.act())]
        async with asyncio.timeout(30):
            await replica.admission.serving.wait()
        (replica.address,) = [entry["address"] for entry in logs if entry["event"] == "admission_serving"]
        try:
            yield replica
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not replica.admission.serving.is_set()


@pytest.fixture(autouse=True)
def _without_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs time here to learn that a replica ends."""
    stop = AdmissionServer.stop

    async def at_once(self: AdmissionServer) -> None:
        self._leaving_seconds = 0.0
        await stop(self)

    monkeypatch.setattr(AdmissionServer, "stop", at_once)


def made() -> Generation:
    return make_generation(["127.0.0.1"], now=utc_now(), lifetime=timedelta(hours=1))


def mount(folder: Path, generation: Generation) -> None:
    """Put files there as the kubelet does: a link to a folder is replaced."""
    content = folder / f"content-{utc_now().timestamp()}"
    content.mkdir()
    (content / "tls.crt").write_bytes(generation.serving.certificate)
    (content / "tls.key").write_bytes(generation.serving.key)
    (content / "ca.crt").write_bytes(generation.authority)
    (folder / "new").symlink_to(content)
    (folder / "new").rename(folder / "mounted")


async def test_a_replica_makes_its_certificate_and_is_trusted_with_it() -> None:
    async with working(Replica()) as replica:
        trusted = await replica.until_trusted()
        assert (await replica.ask(claim(config()), trusted))["allowed"]
        assert not (await replica.ask(claim(config(priority="urgent")), trusted))["allowed"]
        ends = replica.registry.get_sample_value(
            "vgpu_admission_certificate_expiry_timestamp_seconds", {"source": "secret"}
        )
        assert ends is not None
        assert ends > utc_now().timestamp()


async def test_files_are_served_and_trusted_and_read_again_when_they_change(tmp_path: Path) -> None:
    first, second = made(), made()
    mount(tmp_path, first)
    async with working(Replica(certificate_folder=str(tmp_path / "mounted"))) as replica:
        await replica.until_trusted(first.authority)
        assert (await replica.ask(claim(), first.authority))["allowed"]
        mount(tmp_path, second)
        await replica.until_trusted(second.authority)
        await replica.until_serving(second)
        assert replica.api.objects[SECRET].get("data") is None, "the Secret is not needed"


async def test_without_ca_crt_whom_to_trust_is_left_to_others(tmp_path: Path) -> None:
    mount(tmp_path, made())
    (tmp_path / "mounted" / "ca.crt").unlink()
    async with working(Replica(certificate_folder=str(tmp_path / "mounted"))) as replica:
        await until(lambda: replica.api.objects[MUTATING]["webhooks"][0]["failurePolicy"] == "Fail")
        assert replica.trusted() == {b""}


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_a_spoilt_ca_crt_is_told_and_trusted_by_nobody(tmp_path: Path, content: bytes) -> None:
    first = made()
    mount(tmp_path, first)
    async with working(Replica(certificate_folder=str(tmp_path / "mounted"))) as replica:
        await replica.until_trusted(first.authority)
        with capture_logs() as logs:
            (tmp_path / "mounted" / "ca.crt").write_bytes(content)
            await until(lambda: any(entry["event"] == "webhooks_not_written" for entry in logs))
        assert replica.trusted() == {first.authority}


async def test_what_the_watch_shows_is_what_is_judged_by() -> None:
    async with working(Replica()) as replica:
        trusted = await replica.until_trusted()
        large = claim(requests=[{"name": "gpu", "exactly": asking(memory="96Gi")}])
        see, slice_wire = replica.admission.saw, piece("a", device(0, "40Gi"))
        see(Kind.CLASSES, Change.LISTED, of_class("vgpu.hami.io", OURS))
        see(Kind.SLICES, Change.LISTED, slice_wire)
        see(Kind.NAMESPACES, Change.LISTED, {"metadata": {"name": "team-a", "labels": {ALLOW: "true"}}})
        assert len((await replica.ask(large, trusted))["warnings"]) == 1
        assert (await replica.ask(claim(config(priority="high")), trusted))["allowed"]
        see(Kind.SLICES, Change.DELETED, {"metadata": {"name": "a"}})
        see(Kind.NAMESPACES, Change.DELETED, {"metadata": {"name": "team-a"}})
        assert "warnings" not in await replica.ask(large, trusted)
        assert not (await replica.ask(claim(config(priority="high")), trusted))["allowed"]


@pytest.mark.parametrize("kind", [Kind.SLICES, Kind.CLASSES, Kind.NAMESPACES])
@pytest.mark.parametrize(
    "wire", [{}, {"metadata": None}, {"metadata": {"name": "a", "labels": []}, "spec": {"devices": [{"capacity": 7}]}}]
)
def test_an_object_that_makes_no_sense_disturbs_nothing(kind: Kind, wire: dict[str, Any]) -> None:
    replica = Replica()
    replica.admission.saw(kind, Change.MODIFIED, wire)
    replica.admission.saw(kind, Change.DELETED, wire)
