"""The active replica's part: it stages new certificates, tells the API server whom to trust, and switches over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from dra_driver.controller.admission.certificates import utc_now
from dra_driver.controller.admission.rotating import Kept, Terms, staged, switched
from dra_driver.controller.admission.secret import CertificateSecret
from dra_driver.controller.admission.webhooks import Webhooks
from dra_driver.errors import HamiDraError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often things are looked at, and how long an API server is given to learn of an authority, in seconds."""

    look: float
    settle: float

    @classmethod
    def for_lifetime(cls, seconds: float) -> Pace:
        """What suits certificates of that lifetime."""
        return cls(look=min(10.0, seconds / 60), settle=min(60.0, seconds / 12))


class Rotation:
    """Keeps the Secret and the webhook configurations going."""

    def __init__(
        self,
        secret: CertificateSecret,
        webhooks: Webhooks,
        terms: Terms,
        pace: Pace,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secret = secret
        self._webhooks = webhooks
        self._terms = terms
        self._pace = pace
        self._clock = clock
        self._monotonic = monotonic
        self._trusted: tuple[bytes, float] | None = None
        """The bundle that the configurations have been seen with, and since when."""

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.step()
            except HamiDraError as error:
                log.warning("rotation_failed", error=str(error), retry_seconds=self._pace.look)
            await asyncio.sleep(self._pace.look)

    async def step(self) -> None:
        """Do what can be done now. Raises KubeError."""
        stored = await self._secret.read()
        if (next_one := staged(stored.kept, self._terms, now=self._clock())) is not None:
            stored = await self._secret.write(stored, next_one)
            log.info("certificate_staged", names=list(self._terms.names))
        if not stored.kept.bundle:
            return
        await self._tell(stored.kept.bundle)
        if self._settled(stored.kept) and (now_served := switched(stored.kept, now=self._clock())) is not None:
            await self._secret.write(stored, now_served)
            log.info("certificate_switched")

    async def _tell(self, bundle: bytes) -> None:
        changed = await self._webhooks.publish(bundle)
        if changed or self._trusted is None or self._trusted[0] != bundle:
            self._trusted = bundle, self._monotonic()

    def _settled(self, kept: Kept) -> bool:
        """Whether every API server has had time to learn of the bundle."""
        if self._trusted is None or self._trusted[0] != kept.bundle:
            return False
        return self._monotonic() - self._trusted[1] >= self._pace.settle


async def keep_told(webhooks: Webhooks, authority: Callable[[], Awaitable[bytes | None]], pace: Pace) -> None:
    """Tell the API server, until cancelled, where others care for certificates: whom to trust only if they say so."""
    while True:
        try:
            await webhooks.publish(await authority())
        except HamiDraError as error:
            log.warning("webhooks_not_written", error=str(error), retry_seconds=pace.look)
        await asyncio.sleep(pace.look)
