"""Writes what became of claims into their status, after the fact and beside the calls of the kubelet.

A status is for people: it must never delay a pod or fail one. So calls only note what is to be said; one task says
it, when the API server lets it, and says nothing that is there already.

It is also where it comes to light when a claim was allocated anew just as it was prepared by what was known of it: what
its containers have is then of another share than the scheduler believes, and the claim says so.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from dra_driver.errors import HamiDraError
from dra_driver.kube.claim_cache import ClaimCache
from dra_driver.kube.claims import ApiClaims, Claim, ClaimRef, Reported
from dra_driver.kube.errors import Conflict, KubeError, NotFound
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim
from dra_driver.kubeletplugin.claim_status import PREPARED, failed_devices, ready_devices, says, wire_devices
from dra_driver.kubeletplugin.plan import Plan

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The pods of a burst come first; and the watch may bring meanwhile what makes a write needless.
_DELAY = 0.1
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 120.0
_ALLOCATED_ANEW = "AllocatedAnew"
_ALLOCATED_ANEW_MESSAGE = (
    "the claim was allocated anew while it was prepared: its containers have what it was allocated before; "
    "delete the pods that use it, and it is prepared anew"
)


@dataclass(frozen=True)
class _Said:
    """What is to be said of a claim: Prepared, another reason with a message, or nothing any more ("")."""

    ref: ClaimRef
    reason: str
    message: str = ""
    pause: float = _FIRST_PAUSE


class StatusWriter:
    """Hears of outcomes (service.Outcomes); one task, from `run`."""

    def __init__(
        self,
        *,
        driver: str,
        cache: ClaimCache,
        api: ApiClaims,
        plan: Callable[[Claim], Plan],
        recorded: Callable[[str], PreparedClaim | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        delay_seconds: float = _DELAY,
    ) -> None:
        """`plan` plans a claim (see make_plan); `recorded` looks up by UID what was prepared."""
        self._driver = driver
        self._cache = cache
        self._api = api
        self._plan = plan
        self._recorded = recorded
        self._now = now
        self._delay = delay_seconds
        self._due: dict[str, tuple[float, _Said]] = {}
        self._changed = asyncio.Event()
        self._sleeps_until = math.inf
        # What was written last, and the claim as it was known then: until the watch brings another, that is how it is.
        self._written: dict[str, tuple[Claim, tuple[Reported, ...]]] = {}

    def prepared(self, ref: ClaimRef) -> None:
        """Hear that a claim is ready."""
        self._put(_Said(ref, PREPARED), self._delay)

    def failed(self, ref: ClaimRef, reason: str, message: str) -> None:
        """Hear that a claim could not be prepared; `reason` in CamelCase."""
        self._put(_Said(ref, reason, message), self._delay)

    def unprepared(self, ref: ClaimRef) -> None:
        """Hear that a claim was taken back."""
        self._put(_Said(ref, ""), self._delay)

    def allocated_anew(self, ref: ClaimRef) -> None:
        """Hear that a claim's allocation is another one than was known."""
        if self._recorded(ref.uid) is not None and ref.uid not in self._due:
            self.prepared(ref)

    async def run(self, standing: Callable[[], Iterable[ClaimRef]]) -> None:
        """Write until cancelled. `standing` tells the claims that are prepared when the first list has come."""
        await self._cache.listed.wait()
        self._catch_up({ref.uid: ref for ref in standing()})
        while True:
            said = await self._next()
            try:
                await self._say(said)
            except HamiDraError as error:
                self._again(said, error)
            except Exception as error:
                # Whatever happens here must not end the plugin.
                log.error("claim_status_crashed", claim=str(said.ref), uid=said.ref.uid, exc_info=error)

    def _catch_up(self, standing: Mapping[str, ClaimRef]) -> None:
        """Say what an earlier process could not say any more."""
        for claim in self._cache.claims():
            if claim.ref.uid in self._due:
                continue
            if claim.ref.uid in standing:
                self.prepared(claim.ref)
            elif any(device.driver == self._driver and device.ready for device in claim.reported):
                self.unprepared(claim.ref)

    def _put(self, said: _Said, delay: float) -> None:
        when = asyncio.get_running_loop().time() + delay
        self._due[said.ref.uid] = (when, said)
        if when < self._sleeps_until:
            self._changed.set()

    async def _next(self) -> _Said:
        """Wait for what is due first, and take it."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            uid, when = min(((uid, when) for uid, (when, _) in self._due.items()), key=lambda d: d[1], default=("", 0))
            if uid and when <= loop.time():
                return self._due.pop(uid)[1]
            self._sleeps_until = when if uid else math.inf
            try:
                async with asyncio.timeout_at(when if uid else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _say(self, said: _Said) -> None:
        claim = await self._claim(said)
        if claim is None:
            self._written.pop(said.ref.uid, None)
            return
        wanted = self._wanted(said, claim)
        if says(self._known(claim), self._driver, wanted):
            return
        devices = wire_devices(wanted, claim.reported, now=self._now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        await self._api.apply_device_status(said.ref, self._driver, devices)
        if wanted:
            self._written[said.ref.uid] = (claim, wanted)
        else:
            self._written.pop(said.ref.uid, None)
        log.info("claim_status_written", claim=str(said.ref), uid=said.ref.uid, reason=said.reason or "removed")

    async def _claim(self, said: _Said) -> Claim | None:
        """Read the claim; None where there is nothing to be said of it any more."""
        known = self._cache.peek(said.ref.uid)
        if not said.reason and (known is not None or self._cache.trusted()):
            return known
        try:
            claim = known or await self._api.get(said.ref)
        except NotFound:
            return None
        return claim if claim.ref.uid == said.ref.uid and claim.results is not None else None

    def _known(self, claim: Claim) -> tuple[Reported, ...]:
        """What the claim says, as far as is known: the watch may be behind our own writes."""
        seen, written = self._written.get(claim.ref.uid, (None, ()))
        return written if seen is claim else claim.reported

    def _wanted(self, said: _Said, claim: Claim) -> tuple[Reported, ...]:
        if said.reason == PREPARED:
            plan = self._plan(claim)
            if self._is_another(plan):
                log.error("claim_allocated_anew_when_prepared", claim=str(said.ref), uid=said.ref.uid)
                return failed_devices(claim, self._driver, reason=_ALLOCATED_ANEW, message=_ALLOCATED_ANEW_MESSAGE)
            return ready_devices(plan, self._driver)
        if said.reason:
            return failed_devices(claim, self._driver, reason=said.reason, message=said.message)
        return ()

    def _is_another(self, plan: Plan) -> bool:
        """Tell whether something else was prepared than the claim is allocated now."""
        recorded = self._recorded(plan.ref.uid)
        return recorded is not None and {one.key for one in recorded.shares} != {one.share.key for one in plan.shares}

    def _again(self, said: _Said, error: HamiDraError) -> None:
        keys = {"claim": str(said.ref), "uid": said.ref.uid, "error": str(error)}
        if isinstance(error, NotFound):
            self._written.pop(said.ref.uid, None)
        elif isinstance(error, KubeError) and error.retriable and not isinstance(error, Conflict):
            log.warning("claim_status_delayed", retry_seconds=said.pause, **keys)
            # Newer news of the claim come first.
            if said.ref.uid not in self._due:
                pause = min(said.pause * 2, _LONGEST_PAUSE)
                self._put(_Said(said.ref, said.reason, said.message, pause), said.pause * random.uniform(0.8, 1.2))
        else:
            # Another claim of that name, or one that was allocated anew: what was to be said is void.
            log.warning("claim_status_not_written", **keys)
