"""Which replica acts: the one that holds the Lease, and only for as long as nobody else can hold it.

The holder's times are never compared with a clock of ours: a replica waits, by its own clock, until it has seen no
sign of life for as long as the Lease lasts. The holder in turn stops after two thirds of that without a renewal that
was answered, counted from before it was sent, so that it has stopped before anybody else may begin.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from dra_driver.errors import HamiDraError
from dra_driver.kube.errors import Conflict, NotFound
from dra_driver.kube.leases import ApiLease, LeaseRecord

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PAUSE = 1.0
_PATIENCE = 5.0


class NotLeading(HamiDraError):
    """Another replica may hold the Lease by now, so nothing may be written. Retriable, by whoever leads."""

    retriable = True


def _since_boot() -> float:
    """Count the time of a machine that sleeps too, unlike time.monotonic(): meanwhile another replica takes over."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leadership:
    """Takes the Lease, renews it, and lets it go. One task, from `run`."""

    def __init__(
        self,
        lease: ApiLease,
        *,
        identity: str,
        seconds: float,
        on_change: Callable[[bool], None] = lambda _leading: None,
        clock: Callable[[], float] = _since_boot,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`identity` must be another one in every process that ever runs; `on_change` hears whether we lead."""
        self._lease = lease
        self._identity = identity
        self._seconds = seconds
        self._on_change = on_change
        self._clock = clock
        self._now = now
        self._until = float("-inf")
        self._record: LeaseRecord | None = None
        self._seen_at = float("-inf")

    @property
    def identity(self) -> str:
        """Who we are among the replicas."""
        return self._identity

    def left(self) -> float:
        """Say for how many seconds we lead for certain; not above 0 where we do not."""
        return self._until - self._clock()

    def hears(self) -> bool:
        """Tell whether the API server has lately answered us, or shown us the holder's signs of life."""
        return self.left() > 0 or self._clock() - self._seen_at < self._seconds

    @asynccontextmanager
    async def fence(self) -> AsyncIterator[None]:
        """Let what is inside happen only while we lead; it is broken off when that ends. Raises NotLeading."""
        left = self.left()
        if left <= 0:
            raise NotLeading("this replica does not hold the Lease")
        try:
            async with asyncio.timeout(left):
                yield
        except TimeoutError as error:
            raise NotLeading("the Lease was lost before the API server answered") from error

    async def run(self, act: Callable[[], Awaitable[None]]) -> None:
        """Let `act` run whenever we lead, until cancelled or until it ends by itself; then let go of the Lease."""
        while True:
            record = await self._taken()
            acting = asyncio.ensure_future(act())
            try:
                lost = asyncio.create_task(self._renewed(record))
                await asyncio.wait({acting, lost}, return_when=asyncio.FIRST_COMPLETED)
                if acting.done():
                    return
            finally:
                lost.cancel()
                await self._end(acting)
                await asyncio.gather(lost, return_exceptions=True)
                await self._let_go()

    async def _end(self, acting: asyncio.Future[None]) -> None:
        """Cancel, and wait until it has ended: it must never run twice, nor beside another replica's."""
        acting.cancel()
        while (await asyncio.wait({acting}, timeout=_PATIENCE))[1]:
            log.error("still_acting", holder=self._identity)
        if not acting.cancelled() and (error := acting.exception()) is not None:
            log.error("acting_failed", error=str(error), kind=type(error).__name__)

    # Taking.

    async def _taken(self) -> LeaseRecord:
        """Wait until we hold it."""
        while True:
            try:
                record = self._see(await self._read())
                if self._is_free(record):
                    return await self._take(record)
                await self._until_free(record)
            except Conflict:
                # Somebody else was faster.
                continue
            except HamiDraError as error:
                log.warning("lease_not_read", error=str(error))
                await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))

    async def _read(self) -> LeaseRecord:
        try:
            return await self._lease.read()
        except NotFound:
            return await self._lease.create()

    def _see(self, record: LeaseRecord) -> LeaseRecord:
        if self._record is None or record.sign != self._record.sign:
            self._seen_at = self._clock()
            log.debug("lease_seen", holder=record.holder, renewed=record.renewed)
        self._record = record
        return record

    def _is_free(self, record: LeaseRecord) -> bool:
        return not record.holder or self._free_in(record) <= 0

    def _free_in(self, record: LeaseRecord) -> float:
        """Count the seconds until its holder has been silent for too long."""
        return self._seen_at + (record.seconds or self._seconds) - self._clock()

    async def _until_free(self, record: LeaseRecord) -> None:
        """Return when it may be free, or when the watch ends."""
        try:
            async with asyncio.timeout(self._free_in(record)) as patience:
                async for changed in self._lease.changes(record):
                    record = self._see(changed)
                    if self._is_free(record):
                        return
                    patience.reschedule(asyncio.get_running_loop().time() + self._free_in(record))
        except TimeoutError:
            return
        await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))

    async def _take(self, record: LeaseRecord) -> LeaseRecord:
        asked_at = self._clock()
        taken = await self._lease.replace(record.held_by(self._identity, seconds=self._seconds, now=self._now()))
        self._extend(asked_at)
        log.info("lease_taken", holder=self._identity, before=record.holder, transitions=taken.transitions)
        self._on_change(True)
        return taken

    # Holding.

    async def _renewed(self, record: LeaseRecord) -> None:
        """Renew it until that fails for too long, or somebody else has it."""
        try:
            while True:
                await asyncio.sleep(self._seconds / 5 * random.uniform(0.8, 1.0))
                async with asyncio.timeout(max(0.0, self.left())):
                    record = await self._renew(record)
        except (TimeoutError, NotLeading) as error:
            log.error("lease_lost", holder=self._identity, error=str(error) or "it could not be renewed in time")

    async def _renew(self, record: LeaseRecord) -> LeaseRecord:
        while True:
            try:
                asked_at = self._clock()
                renewed = await self._lease.replace(
                    record.held_by(self._identity, seconds=self._seconds, now=self._now())
                )
                self._extend(asked_at)
                return renewed
            except Conflict:
                record = await self._look_again(record)
            except HamiDraError as error:
                log.warning("lease_not_renewed", error=str(error), left_seconds=round(self.left(), 1))
                await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.0))

    async def _look_again(self, record: LeaseRecord) -> LeaseRecord:
        """Read what somebody changed; raises NotLeading where it is ours no more."""
        try:
            found = await self._lease.read()
        except NotFound as error:
            raise NotLeading("the Lease was deleted") from error
        except HamiDraError:
            return record
        if found.holder != self._identity:
            raise NotLeading(f"{found.holder or 'nobody'} holds the Lease")
        return found

    def _extend(self, asked_at: float) -> None:
        self._until = asked_at + self._seconds * 2 / 3

    # Letting go.

    async def _let_go(self) -> None:
        """Let others have it at once, if it is still ours; otherwise they wait until it has run out."""
        left, self._until = self.left(), float("-inf")
        self._on_change(False)
        if left <= 0:
            return
        try:
            async with asyncio.timeout(left):
                record = await self._lease.read()
                if record.holder == self._identity:
                    await self._lease.replace(record.released(now=self._now()))
                    log.info("lease_released", holder=self._identity)
        except (HamiDraError, TimeoutError) as error:
            log.warning("lease_not_released", holder=self._identity, error=str(error) or "no answer in time")
