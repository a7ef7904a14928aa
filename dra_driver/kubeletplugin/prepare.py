"""Prepare and Unprepare: plan, record, act, record; and back.

Both may be called any number of times, in any order, after a crash at any point. What makes that so:
- the plan is pure, so doing it again gives the same share keys and the same files;
- STARTED is recorded before the first effect and before the first undoing, so that nothing half done is unrecorded;
- nobody waits for the disk where a power cut, which is a boot, makes void what it could lose: only that a claim was
  taken back, and that something was begun which outlives a boot, is on the disk before anybody goes on;
- effects are idempotent, and undone in reverse when one of them fails;
- a COMPLETED claim is answered from the record;
- what a plugin that died has left half done, and no container can use, is undone before the next one serves.

Calls for different claims run side by side, calls for one claim one after the other. What blocks (the disk, a
vendor's library) runs in threads. Where two plugins share a node during an update, they take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from dra_driver.errors import ClaimNotReady, HamiDraError, OverCommitted
from dra_driver.kube.claims import Claim, ClaimRef, Claims
from dra_driver.kube.errors import NotFound
from dra_driver.kubeletplugin.checkpoint import Checkpoint
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim, PreparedShare, State
from dra_driver.kubeletplugin.effects import Effects, prepared_claim, prepared_share
from dra_driver.kubeletplugin.lanes import Lanes
from dra_driver.kubeletplugin.ledger import AllocatedClaims, Promise, allocated_before, check_fits, promises
from dra_driver.kubeletplugin.plan import Plan
from dra_driver.kubeletplugin.turns import Turns
from drivers.errors import DriverError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Room may also be made by another plugin, or be seen in the API: that is looked for this often.
_LOOK_FOR_ROOM_SECONDS = 0.5


@dataclass
class _ClaimLock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Preparation:
    """The node's side of claims: makes them ready for containers, and takes that back."""

    def __init__(
        self,
        *,
        claims: Claims,
        allocated: AllocatedClaims,
        plan: Callable[[Claim], Plan],
        checkpoint: Checkpoint,
        effects: Effects,
        turns: Turns,
        boot_id: str,
        patience_seconds: float = 20.0,
        on_recorded: Callable[[], None] = lambda: None,
    ) -> None:
        """`plan` plans a claim (see make_plan).

        `on_recorded` hears that there is something to be done behind the calls; it does not block.
        """
        self._claims = claims
        self._allocated = allocated
        self._plan = plan
        self._checkpoint = checkpoint
        self._effects = effects
        self._turns = turns
        self._boot_id = boot_id
        self._locks: dict[str, _ClaimLock] = {}
        self._patience_seconds = patience_seconds
        self._on_recorded = on_recorded
        self._lanes = Lanes()
        # Two claims must not both be found to fit on what is left of a card, so what fits counts at once.
        self._beginning: dict[str, PreparedClaim] = {}
        self._room_made = asyncio.Event()

    async def prepare(self, ref: ClaimRef) -> tuple[PreparedShare, ...]:
        """Make a claim ready and tell its shares. Raises HamiDraError, DriverError, OSError."""
        ref.check()
        async with self._only_one(ref.uid):
            claim = self._claims.at_hand(ref)
            if claim is None:
                async with self._turns.turn():
                    if (shares := await self._prepared_before(ref)) is not None:
                        return shares
                # Not within the turn: the API server may take its time.
                claim = await self._read(ref)
            return await self._prepare_once_it_fits(claim)

    async def unprepare(self, ref: ClaimRef) -> None:
        """Take back what `prepare` did; a claim that is unknown is a success. Raises DriverError, OSError."""
        ref.check()
        async with self._only_one(ref.uid), self._turns.turn():
            recorded = self._checkpoint.get(ref.uid)
            if recorded is None:
                await self._lanes.run(self._checkpoint.sync)
                log.info("claim_unprepared_before", claim=str(ref), uid=ref.uid)
                return
            await self._take_back(recorded)
            log.info("claim_unprepared", claim=str(ref), uid=ref.uid)

    async def settle(self) -> None:
        """Undo what a plugin that died has left half done, where no container can be using it.

        For the start, before anything is served. What cannot be undone now stays recorded, for the kubelet's call.
        """
        async with self._turns.turn():
            for recorded in self._checkpoint.claims():
                if recorded.state is State.STARTED and not recorded.may_be_in_use:
                    await self._roll_back(recorded)

    async def _read(self, ref: ClaimRef) -> Claim:
        try:
            claim = await self._claims.get(ref)
        except NotFound as error:
            raise ClaimNotReady(f"{ref}: the claim does not exist any more") from error
        if claim.ref.uid != ref.uid:
            raise ClaimNotReady(f"{ref}: metadata.uid: the claim was replaced: {claim.ref.uid} is not {ref.uid}")
        return claim

    async def _prepared_before(self, ref: ClaimRef) -> tuple[PreparedShare, ...] | None:
        """Answer from the record where it is complete, of this boot, and its files are there."""
        recorded = self._checkpoint.get(ref.uid)
        if recorded is None or recorded.state is not State.COMPLETED or recorded.boot_id != self._boot_id:
            return None
        if not await self._lanes.run(self._effects.stand, recorded):
            return None
        log.info("claim_prepared_before", claim=str(ref), uid=ref.uid)
        return recorded.shares

    async def _prepare_once_it_fits(self, claim: Claim) -> tuple[PreparedShare, ...]:
        """Prepare the claim as soon as there is room for it.

        The scheduler gives a card to the next pod when the API no longer shows the last one, which for a pod that
        was deleted by force is before its containers have ended. The kubelet would try again only after a minute
        or more, so what does not fit now is given some time, well within the 45 s of the kubelet's call.
        """
        deadline = asyncio.get_running_loop().time() + self._patience_seconds
        while True:
            room_made = self._room_made
            async with self._turns.turn():
                if (shares := await self._prepared_before(claim.ref)) is not None:
                    return shares
                plan = self._plan(claim)
                check_fits(plan.ref, plan.shares, held=())
                recorded = await self._without_other_allocation(plan)
                misfit = self._misfit(claim, plan)
                if misfit is None:
                    return await self._carry_out(plan, recorded)
            await _wait_for_room(room_made, misfit, deadline)

    async def _without_other_allocation(self, plan: Plan) -> PreparedClaim | None:
        """Return the record of the claim; one of another allocation is taken back first.

        The scheduler allocates a claim anew only while no pod uses it.
        """
        recorded = self._checkpoint.get(plan.ref.uid)
        if recorded is None or _keys(recorded) == {share.share.key for share in plan.shares}:
            return recorded
        await self._take_back(recorded)
        return None

    def _misfit(self, claim: Claim, plan: Plan) -> OverCommitted | None:
        try:
            check_fits(plan.ref, plan.shares, self._held(claim, {share.share.device.uuid for share in plan.shares}))
        except OverCommitted as error:
            return error
        return None

    def _held(self, claim: Claim, cards: Collection[str]) -> tuple[Promise, ...]:
        beginning = self._beginning
        recorded = (one for one in self._checkpoint.on_cards(cards) if one.uid not in beginning)
        held = promises((*recorded, *beginning.values()), cards=cards)
        if not self._allocated.trusted():
            return held
        others = self._allocated.claims(besides=self._checkpoint.uids() | beginning.keys())
        return held + allocated_before(claim, others, self._plan_if_possible)

    def _plan_if_possible(self, claim: Claim) -> Plan | None:
        try:
            return self._plan(claim)
        except HamiDraError:
            return None

    async def _carry_out(self, plan: Plan, recorded: PreparedClaim | None) -> tuple[PreparedShare, ...]:
        started = _started(plan, recorded, self._boot_id)
        self._beginning[plan.ref.uid] = started
        try:
            completed = await self._lanes.run(self._perform, plan, started)
        except Exception as error:
            log.warning("claim_not_prepared", claim=str(plan.ref), uid=plan.ref.uid, error=str(error))
            # A claim that was ready before may have running containers: what is left of it stays.
            if not started.may_be_in_use and self._checkpoint.get(plan.ref.uid) is not None:
                await self._roll_back(started)
            raise
        finally:
            del self._beginning[plan.ref.uid]
            self._make_room()
            self._on_recorded()
        keys = [share.key for share in completed.shares]
        log.info("claim_prepared", claim=str(plan.ref), uid=plan.ref.uid, shares=keys)
        return completed.shares

    def _perform(self, plan: Plan, started: PreparedClaim) -> PreparedClaim:
        """Blocking: record, act, record."""
        self._checkpoint.put(started)
        if self._effects.outlive_reboot(plan):
            self._checkpoint.sync()
        completed = self._effects.do(
            plan,
            boot_id=self._boot_id,
            # After a reboot no process of a share lives, and what its accounting tells (monotonic times too) is void.
            fresh=started.boot_id != self._boot_id,
            now_ns=time.monotonic_ns(),
        )
        self._checkpoint.put(completed)
        return completed

    async def _take_back(self, recorded: PreparedClaim) -> None:
        await self._lanes.run(self._undo, recorded)
        self._make_room()

    def _undo(self, recorded: PreparedClaim) -> None:
        """Blocking: record that it is no longer ready, undo, forget for good."""
        if recorded.state is not State.STARTED or recorded.may_be_in_use:
            self._checkpoint.put(_unready(recorded))
        self._effects.undo(recorded)
        self._checkpoint.remove(recorded.uid)
        # The kubelet will not speak of it again: a record that came back after a power cut would stay.
        self._checkpoint.sync()

    def _make_room(self) -> None:
        self._room_made.set()
        self._room_made = asyncio.Event()

    async def _roll_back(self, started: PreparedClaim) -> None:
        """Undo what a failed prepare left. Should that fail too, the record stays, and unprepare undoes it."""
        try:
            await self._take_back(started)
        except (HamiDraError, DriverError, OSError) as error:
            log.error("claim_rollback_failed", claim=str(started.ref), uid=started.uid, error=str(error))
        else:
            log.info("claim_rolled_back", claim=str(started.ref), uid=started.uid)

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


async def _wait_for_room(room_made: asyncio.Event, misfit: OverCommitted, deadline: float) -> None:
    """Wait for the next change, or for a while; raises the misfit when the time is over."""
    left = deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise misfit
    try:
        async with asyncio.timeout(min(left, _LOOK_FOR_ROOM_SECONDS)):
            await room_made.wait()
    except TimeoutError:
        return


def _started(plan: Plan, recorded: PreparedClaim | None, boot_id: str) -> PreparedClaim:
    """The record before the effects.

    What was ready before still names its CDI devices, since containers may use them, and keeps its boot, so that an
    attempt that fails does not make that forgotten.
    """
    before = {share.key: share.cdi_devices for share in recorded.shares} if recorded else {}
    shares = (prepared_share(planned, before.get(planned.share.key, ())) for planned in plan.shares)
    return prepared_claim(plan.ref, State.STARTED, recorded.boot_id if recorded else boot_id, shares)


def _unready(recorded: PreparedClaim) -> PreparedClaim:
    """The record before the undoing: the kubelet has said that no container uses it any more."""
    shares = tuple(share.model_copy(update={"cdi_devices": ()}) for share in recorded.shares)
    return recorded.model_copy(update={"state": State.STARTED, "shares": shares})


def _keys(recorded: PreparedClaim) -> set[str]:
    return {share.key for share in recorded.shares}
