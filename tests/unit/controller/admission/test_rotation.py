"""Certificates change without a moment in which a caller trusts none of what is served."""

from __future__ import annotations

import asyncio
import base64
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from dra_driver.controller.admission.certificates import (
    Pair,
    belongs,
    facts,
    make_generation,
    signed_by,
    valid_authorities,
)
from dra_driver.controller.admission.rotating import Terms
from dra_driver.controller.admission.rotation import Pace, Rotation
from dra_driver.controller.admission.secret import CertificateSecret
from dra_driver.controller.admission.sources import SecretSource
from dra_driver.controller.admission.webhooks import Webhooks
from dra_driver.kube.errors import KubeError, NotFound
from tests.unit.controller.admission.objects_api import ObjectsApi

SECRET = "/api/v1/namespaces/hami-dra/secrets/hami-dra-admission"
ROOT = "/apis/admissionregistration.k8s.io/v1"
VALIDATING = f"{ROOT}/validatingwebhookconfigurations/hami-dra-admission"
MUTATING = f"{ROOT}/mutatingwebhookconfigurations/hami-dra-admission"
NAMES = ("hami-dra-controller.hami-dra.svc", "10.0.0.1")
DAY = timedelta(days=1)
LIFETIME = 90 * DAY
SETTLE = 60.0


def webhook(name: str) -> dict[str, Any]:
    return {"name": name, "clientConfig": {"service": {"name": "hami-dra-controller"}}, "failurePolicy": "Ignore"}


@dataclass
class Cluster:
    """An API server, a clock, and two replicas."""

    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    api: ObjectsApi = field(
        default_factory=lambda: ObjectsApi(
            {
                SECRET: {"metadata": {"name": "hami-dra-admission", "labels": {"kept": "yes"}}},
                VALIDATING: {"webhooks": [webhook("a.vgpu.hami.io"), webhook("b.vgpu.hami.io")]},
                MUTATING: {"webhooks": [webhook("c.vgpu.hami.io")]},
            }
        )
    )
    names: tuple[str, ...] = NAMES
    lifetime: timedelta = LIFETIME

    def source(self) -> SecretSource:
        return SecretSource(self._secret(), Terms(self.names, self.lifetime), clock=lambda: self.now)

    def rotation(self, policy: str = "Fail") -> Rotation:
        return Rotation(
            self._secret(),
            Webhooks(self.api, failure_policy=policy),
            Terms(self.names, self.lifetime),
            Pace(look=10.0, settle=SETTLE),
            clock=lambda: self.now,
            monotonic=self._seconds,
        )

    def _seconds(self) -> float:
        return self.now.timestamp()

    def _secret(self) -> CertificateSecret:
        return CertificateSecret(self.api, namespace="hami-dra")

    def content(self, key: str) -> bytes:
        return base64.b64decode(self.api.objects[SECRET].get("data", {}).get(key, ""))

    def trusted(self, path: str = VALIDATING) -> list[bytes]:
        """The bundle of each webhook of a configuration."""
        webhooks = self.api.objects[path]["webhooks"]
        return [base64.b64decode(one["clientConfig"].get("caBundle", "")) for one in webhooks]

    def is_trusted(self, pair: Pair) -> bool:
        return all(
            signed_by(pair.certificate, valid_authorities(bundle, now=self.now))
            for path in (VALIDATING, MUTATING)
            for bundle in self.trusted(path)
        )


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_certificate_is_for_its_names_and_signed_by_its_authority_alone(cluster: Cluster) -> None:
    made, other = (make_generation(NAMES, now=cluster.now, lifetime=LIFETIME) for _ in range(2))
    told = facts(made.serving.certificate)
    assert told.names == frozenset(NAMES)
    assert told.ends == cluster.now + LIFETIME
    assert told.begins < cluster.now, "clocks differ"
    assert belongs(made.serving)
    assert not belongs(Pair(made.serving.certificate, other.serving.key))
    assert signed_by(made.serving.certificate, [other.authority, made.authority])
    assert not signed_by(made.serving.certificate, [other.authority])
    authority = x509.load_pem_x509_certificate(made.authority)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


async def test_the_first_replica_makes_it_and_the_second_takes_it(cluster: Cluster) -> None:
    first, second = await asyncio.gather(cluster.source().current(), cluster.source().current())
    assert first == second
    assert len([path for method, path in cluster.api.writes if method == "PUT"]) == 2, "one of them was too late"
    assert facts(first.certificate).names == frozenset(NAMES)
    assert cluster.api.objects[SECRET]["metadata"]["labels"] == {"kept": "yes"}


async def test_nothing_is_written_when_nothing_is_to_be_done(cluster: Cluster) -> None:
    await cluster.source().current()
    rotation = cluster.rotation()
    await rotation.step()
    written = len(cluster.api.writes)
    for _ in range(5):
        await cluster.source().current()
        await rotation.step()
    assert len(cluster.api.writes) == written


async def test_the_api_server_is_told_whom_to_trust_and_what_to_do_when_nobody_answers(cluster: Cluster) -> None:
    pair = await cluster.source().current()
    await cluster.rotation().step()
    assert cluster.is_trusted(pair)
    webhooks = cluster.api.objects[VALIDATING]["webhooks"] + cluster.api.objects[MUTATING]["webhooks"]
    assert [one["failurePolicy"] for one in webhooks] == ["Fail"] * 3
    assert webhooks[0]["clientConfig"]["service"] == {"name": "hami-dra-controller"}


async def test_a_configuration_that_was_applied_anew_is_written_again(cluster: Cluster) -> None:
    pair = await cluster.source().current()
    rotation = cluster.rotation()
    await rotation.step()
    cluster.api.objects[VALIDATING]["webhooks"][1] = webhook("b.vgpu.hami.io")
    assert not cluster.is_trusted(pair)
    await rotation.step()
    assert cluster.is_trusted(pair)


async def test_a_configuration_that_is_not_installed_is_left_out(cluster: Cluster) -> None:
    del cluster.api.objects[MUTATING]
    await cluster.source().current()
    await cluster.rotation().step()
    assert all(cluster.trusted())


async def test_at_every_moment_of_a_rotation_what_is_served_is_trusted(cluster: Cluster) -> None:
    source, rotation = cluster.source(), cluster.rotation()
    first = await source.current()
    await rotation.step()
    cluster.now += LIFETIME * 2 / 3 - DAY
    await rotation.step()
    assert cluster.content("next.crt") == b"", "not yet time for another"
    cluster.now += 2 * DAY
    served = [first]
    for _ in range(20):
        await rotation.step()
        served.append(await source.current())
        assert cluster.is_trusted(first), "a replica that has not looked yet serves this"
        assert cluster.is_trusted(served[-1])
        cluster.now += timedelta(seconds=10)
    changes = [index for index, (one, other) in enumerate(itertools.pairwise(served)) if one != other]
    assert len(changes) == 1
    assert changes[0] * 10 >= SETTLE, "the API servers had time to learn of the new authority"
    assert cluster.content("next.crt") == b""
    assert len(valid_authorities(cluster.content("ca.crt"), now=cluster.now)) == 2, "the old one until it ends"


async def test_an_authority_that_has_ended_leaves_the_bundle(cluster: Cluster) -> None:
    await cluster.source().current()
    for _ in range(3):
        cluster.now += LIFETIME * 3 / 4
        rotation = cluster.rotation()
        await rotation.step()
        cluster.now += timedelta(seconds=SETTLE + 1)
        await rotation.step()
    assert len(valid_authorities(cluster.content("ca.crt"), now=datetime(2000, 1, 1, tzinfo=UTC))) == 2


async def test_another_replica_goes_on_where_a_rotation_stopped(cluster: Cluster) -> None:
    first = await cluster.source().current()
    cluster.now += LIFETIME - 20 * DAY
    await cluster.rotation().step()
    staged = cluster.content("next.crt")
    taken_over = cluster.rotation()
    await taken_over.step()
    assert cluster.content("next.crt") == staged, "what is staged is not made again"
    assert (await cluster.source().current()) == first, "its own time to settle begins anew"
    cluster.now += timedelta(seconds=SETTLE + 1)
    await taken_over.step()
    assert (await cluster.source().current()).certificate == staged


async def test_names_that_change_bring_a_new_certificate_in_the_same_steps(cluster: Cluster) -> None:
    await cluster.source().current()
    cluster.names = ("elsewhere.hami-dra.svc",)
    rotation = cluster.rotation()
    await rotation.step()
    cluster.now += timedelta(seconds=SETTLE + 1)
    await rotation.step()
    pair = await cluster.source().current()
    assert facts(pair.certificate).names == {"elsewhere.hami-dra.svc"}
    assert cluster.is_trusted(pair)


async def test_a_shorter_life_counts_for_the_certificate_that_there_is(cluster: Cluster) -> None:
    first = await cluster.source().current()
    cluster.lifetime = 30 * DAY
    rotation = cluster.rotation()
    await rotation.step()
    cluster.now += timedelta(seconds=SETTLE + 1)
    await rotation.step()
    second = await cluster.source().current()
    assert facts(first.certificate).ends > facts(second.certificate).ends > cluster.now


async def test_a_certificate_that_has_ended_is_replaced_at_once(cluster: Cluster) -> None:
    old = await cluster.source().current()
    cluster.now += LIFETIME + DAY
    new = await cluster.source().current()
    assert new != old
    assert len(valid_authorities(cluster.content("ca.crt"), now=cluster.now)) == 1


@pytest.mark.parametrize("key", ["ca.crt", "tls.crt", "tls.key"])
@pytest.mark.parametrize("content", ["", "bm90IGEgY2VydGlmaWNhdGU=", "not base64 at all"])
async def test_what_somebody_has_spoilt_by_hand_is_replaced(cluster: Cluster, key: str, content: str) -> None:
    old = await cluster.source().current()
    cluster.api.objects[SECRET]["data"][key] = content
    await cluster.rotation().step()
    new = await cluster.source().current()
    assert new != old
    assert signed_by(new.certificate, valid_authorities(cluster.content("ca.crt"), now=cluster.now))


async def test_a_spoilt_next_certificate_is_never_served(cluster: Cluster) -> None:
    first = await cluster.source().current()
    cluster.api.objects[SECRET]["data"] |= {"next.crt": "AAAA", "next.key": "AAAA"}
    rotation = cluster.rotation()
    for _ in range(3):
        await rotation.step()
        cluster.now += timedelta(seconds=SETTLE + 1)
    assert await cluster.source().current() == first


async def test_a_missing_secret_is_an_error_that_names_it(cluster: Cluster) -> None:
    cluster.api.objects.clear()
    with pytest.raises(NotFound, match="secrets/hami-dra-admission"):
        await cluster.source().current()


async def test_rotation_outlives_an_api_server_that_does_not_answer(cluster: Cluster) -> None:
    cluster.api.failing = KubeError("GET", 0, "no answer")
    task = asyncio.create_task(cluster.rotation().run())
    await cluster.api.asked.wait()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


def test_the_pace_suits_short_lives_too() -> None:
    assert Pace.for_lifetime(7776000) == Pace(look=10.0, settle=60.0)
    assert Pace.for_lifetime(12) == Pace(look=0.2, settle=1.0)
