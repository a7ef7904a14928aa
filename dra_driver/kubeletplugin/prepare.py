"""Prepare and Unprepare: plan, record, act, record; and back.

Both may be called any number of times, in any order, after a crash at any point. What makes that so:
- the plan is pure, so doing it again gives the same share keys and the same files;
- STARTED is recorded before the first effect, so an effect without a record cannot exist;
- effects are idempotent, and undone in reverse when one of them fails;
- a COMPLETED claim is answered from the record.

Calls for different claims run side by side, calls for one claim one after the other. What blocks (the disk, a
vendor's library) runs in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from dra_driver.errors import ClaimNotReady, HamiDraError, OverCommitted
from dra_driver.kube.claims import Claim, ClaimRef, Claims
from dra_driver.kube.errors import NotFound
from dra_driver.kubeletplugin.checkpoint import Checkpoint, PreparedClaim, PreparedShare, State
from dra_driver.kubeletplugin.effects import Effects, prepared_share
from dra_driver.kubeletplugin.ledger import check_fits, promises
from dra_driver.kubeletplugin.plan import Card, Plan, make_plan
from drivers.errors import DriverError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Cards = Callable[[], Mapping[tuple[str, str], Card]]


@dataclass
class _ClaimLock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Preparation:
    """The node's side of claims: makes them ready for containers, and takes that back."""

    def __init__(
        self,
        *,
        driver: str,
        claims: Claims,
        cards: Cards,
        checkpoint: Checkpoint,
        effects: Effects,
        boot_id: str,
        patience_seconds: float = 20.0,
    ) -> None:
        self._driver = driver
        self._claims = claims
        self._cards = cards
        self._checkpoint = checkpoint
        self._effects = effects
        self._boot_id = boot_id
        self._locks: dict[str, _ClaimLock] = {}
        self._patience_seconds = patience_seconds
        # Two claims must not both be found to fit on what is left of a card; and one may wait for another to go.
        self._ledger = asyncio.Condition()

    async def prepare(self, ref: ClaimRef) -> tuple[PreparedShare, ...]:
        """Make a claim ready and tell its shares. Raises HamiDraError, DriverError, OSError."""
        ref.check()
        async with self._only_one(ref.uid):
            recorded = self._checkpoint.get(ref.uid)
            if recorded is not None and await self._still_stands(recorded):
                log.info("claim_prepared_before", claim=str(ref), uid=ref.uid)
                return recorded.shares
            plan = make_plan(await self._read(ref), driver=self._driver, cards=self._cards())
            return await self._carry_out(plan, recorded)

    async def unprepare(self, ref: ClaimRef) -> None:
        """Take back what `prepare` did; a claim that is unknown is a success. Raises DriverError, OSError."""
        ref.check()
        async with self._only_one(ref.uid):
            recorded = self._checkpoint.get(ref.uid)
            if recorded is None:
                log.info("claim_unprepared_before", claim=str(ref), uid=ref.uid)
                return
            await self._take_back(recorded)
            log.info("claim_unprepared", claim=str(ref), uid=ref.uid)

    async def _read(self, ref: ClaimRef) -> Claim:
        try:
            claim = await self._claims.get(ref)
        except NotFound as error:
            raise ClaimNotReady(f"{ref}: the claim does not exist any more") from error
        if claim.ref.uid != ref.uid:
            raise ClaimNotReady(f"{ref}: metadata.uid: the claim was replaced: {claim.ref.uid} is not {ref.uid}")
        return claim

    async def _still_stands(self, recorded: PreparedClaim) -> bool:
        """Tell whether a record can be answered from: complete, of this boot, and its files there."""
        if recorded.state is not State.COMPLETED or recorded.boot_id != self._boot_id:
            return False
        return await asyncio.to_thread(self._effects.stand, recorded)

    async def _carry_out(self, plan: Plan, recorded: PreparedClaim | None) -> tuple[PreparedShare, ...]:
        if recorded is not None and _keys(recorded.shares) != {share.share.key for share in plan.shares}:
            # The scheduler has allocated anew, which it does only while no pod uses the claim.
            await self._take_back(recorded)
            recorded = None
        # After a reboot no process of a share lives, and what its accounting tells (monotonic times too) is void.
        # STARTED keeps the boot of the record before, so that an attempt that fails does not make that forgotten.
        boot_id = recorded.boot_id if recorded is not None else self._boot_id
        fresh = boot_id != self._boot_id
        await self._start(plan, _started(plan, boot_id, recorded))
        try:
            shares = await asyncio.to_thread(
                self._effects.do, plan.ref, plan.shares, fresh=fresh, now_ns=time.monotonic_ns()
            )
            completed = _record(plan, State.COMPLETED, self._boot_id, shares)
            await asyncio.to_thread(self._checkpoint.put, completed)
        except Exception as error:
            log.warning("claim_not_prepared", claim=str(plan.ref), uid=plan.ref.uid, error=str(error))
            # A claim that was ready before may have running containers: what is left of it stays.
            if recorded is None:
                await self._roll_back(plan)
            raise
        log.info("claim_prepared", claim=str(plan.ref), uid=plan.ref.uid, shares=[share.key for share in shares])
        return shares

    async def _take_back(self, recorded: PreparedClaim) -> None:
        await asyncio.to_thread(self._effects.undo, recorded)
        await asyncio.to_thread(self._checkpoint.remove, recorded.uid)
        async with self._ledger:
            self._ledger.notify_all()

    async def _start(self, plan: Plan, started: PreparedClaim) -> None:
        """Record the claim once it fits.

        The scheduler gives a card to the next pod when the API no longer shows the last one, which for a pod that
        was deleted by force is before its containers have ended. The kubelet would try again only after a minute
        or more, so what does not fit now is given some time, well within the 45 s of the kubelet's call.
        """
        check_fits(plan.ref, plan.shares, held=())
        async with self._ledger:
            deadline = asyncio.get_running_loop().time() + self._patience_seconds
            while (misfit := self._misfit(plan)) is not None:
                await self._wait_for_room(misfit, deadline)
            await asyncio.to_thread(self._checkpoint.put, started)

    def _misfit(self, plan: Plan) -> OverCommitted | None:
        try:
            check_fits(plan.ref, plan.shares, promises(self._checkpoint.claims()))
        except OverCommitted as error:
            return error
        return None

    async def _wait_for_room(self, misfit: OverCommitted, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._ledger.wait()
        except TimeoutError:
            raise misfit from None

    async def _roll_back(self, plan: Plan) -> None:
        """Undo what a failed prepare left. Should that fail too, the record stays, and unprepare undoes it."""
        try:
            await self._take_back(_started(plan, self._boot_id, None))
        except (HamiDraError, DriverError, OSError) as error:
            log.error("claim_rollback_failed", claim=str(plan.ref), uid=plan.ref.uid, error=str(error))

    @asynccontextmanager
    async def _only_one(self, uid: str) -> AsyncIterator[None]:
        entry = self._locks.setdefault(uid, _ClaimLock())
        entry.waiting += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.waiting -= 1
            if not entry.waiting:
                del self._locks[uid]


def _started(plan: Plan, boot_id: str, recorded: PreparedClaim | None) -> PreparedClaim:
    """The record before the effects. What was ready before still names its CDI devices: containers may use them."""
    before = {share.key: share.cdi_devices for share in recorded.shares} if recorded else {}
    shares = [prepared_share(planned, before.get(planned.share.key, ())) for planned in plan.shares]
    return _record(plan, State.STARTED, boot_id, shares)


def _record(plan: Plan, state: State, boot_id: str, shares: Sequence[PreparedShare]) -> PreparedClaim:
    ref = plan.ref
    return PreparedClaim(
        uid=ref.uid, namespace=ref.namespace, name=ref.name, state=state, boot_id=boot_id, shares=tuple(shares)
    )


def _keys(shares: Sequence[PreparedShare]) -> set[str]:
    return {share.key for share in shares}
