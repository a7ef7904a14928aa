"""The claims of this node, watched, so that the usual Prepare asks the API server nothing.

A claim names no node, so there is no selector for "ours": all claims are watched, and only those are kept whose
allocation is of this driver and this node, as parsed values.

What is kept answers only while it can be trusted to be new: while the watch speaks, and not for a claim that was
released here since, which may be allocated anew by now. Otherwise, and for a claim that is not known (the kubelet
may be faster than the watch), the API server is asked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Set

import structlog

from dra_driver.errors import HamiDraError, ObjectRejected
from dra_driver.kube.claims import ApiClaims, Claim, ClaimRef, Result, parse_claim
from dra_driver.kube.connection import JsonObject
from dra_driver.kube.errors import Expired

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# The server sends a bookmark about once a minute on a watch without events.
_SILENCE_SECONDS = 90.0


class ClaimCache:
    """Claims by UID. One task, from `run`; everything else is quick and never blocks on it."""

    def __init__(
        self,
        claims: ApiClaims,
        *,
        ours: Callable[[Result], bool],
        on_miss: Callable[[str], None] = lambda _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ours` tells results of this driver and node; `on_miss` hears why the API server had to be asked."""
        self._claims = claims
        self._ours = ours
        self._on_miss = on_miss
        self.on_allocated_anew: Callable[[ClaimRef], None] = lambda _ref: None
        """Hears of a claim whose allocation is another one than was known."""
        self.on_seen: Callable[[Claim], None] = lambda _claim: None
        """Hears of each claim of this node that the watch brings."""
        self._clock = clock
        self._known: dict[str, Claim] = {}
        # Claims whose allocation may be another one by now, and among them those that nobody here holds any more.
        self._doubtful: set[str] = set()
        self._unprepared: set[str] = set()
        # When the watch has spoken last; None while nothing is known of how old the claims are.
        self._heard: float | None = None
        self._listed = asyncio.Event()

    @property
    def listed(self) -> asyncio.Event:
        """Set once all claims have been read for the first time."""
        return self._listed

    def at_hand(self, ref: ClaimRef, /) -> Claim | None:
        """See Claims."""
        known = self._known.get(ref.uid)
        return known if not self._doubt(ref, known) else None

    async def get(self, ref: ClaimRef) -> Claim:
        """Return a claim, from the API server where what is known cannot be relied on. Raises as ApiClaims.get."""
        known = self._known.get(ref.uid)
        reason = self._doubt(ref, known)
        if known is not None and not reason:
            return known
        self._on_miss(reason)
        return await self._claims.get(ref)

    def peek(self, uid: str) -> Claim | None:
        """Return what is known of a claim that holds something of ours, however old it is."""
        return self._known.get(uid)

    def claims(self, *, besides: Set[str] = frozenset()) -> tuple[Claim, ...]:
        """List the claims that hold something of this node, as far as is known; not those with these UIDs.

        One that was unprepared here holds nothing, though the API may show it as allocated for a while.
        """
        return tuple(self._known[uid] for uid in self._known.keys() - self._unprepared - besides)

    def trusted(self) -> bool:
        """Tell whether what is known is as new as the watch can make it."""
        return self._heard is not None and self._clock() - self._heard < _SILENCE_SECONDS

    def prepared(self, ref: ClaimRef) -> None:
        """Hear that a claim is ready (service.Outcomes)."""
        self._unprepared.discard(ref.uid)

    def failed(self, ref: ClaimRef, _reason: str, _message: str, /) -> None:
        """Hear that a claim could not be prepared: what is known of it may be the reason, so it is read anew."""
        if ref.uid in self._known:
            self._doubtful.add(ref.uid)

    def unprepared(self, ref: ClaimRef) -> None:
        """Hear that a claim was taken back: what is known of its allocation is not to be used again."""
        if ref.uid in self._known:
            self._doubtful.add(ref.uid)
            self._unprepared.add(ref.uid)

    async def run(self) -> None:
        """List and watch until cancelled."""
        pause = _FIRST_PAUSE
        version = ""
        while True:
            try:
                version = version or await self._list()
                async for event in self._claims.watch(version):
                    version = self._observe(event) or version
                    pause = _FIRST_PAUSE
                # A server that ends every watch at once must not be stormed.
                await asyncio.sleep(_FIRST_PAUSE)
            except Expired:
                log.info("claims_listed_again", resource_version=version)
                version = ""
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            except HamiDraError as error:
                self._heard = None
                log.warning("claims_not_watched", error=str(error), retry_seconds=round(pause, 1))
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _list(self) -> str:
        known: dict[str, Claim] = {}
        version = ""
        async for page, listed_at in self._claims.pages():
            known |= {claim.ref.uid: claim for claim in self._kept(page)}
            version = listed_at
        self._known = known
        self._doubtful &= known.keys()
        self._unprepared &= known.keys()
        self._heard = self._clock()
        self._listed.set()
        log.info("claims_listed", claims=len(known), resource_version=version)
        return version

    def _observe(self, event: JsonObject) -> str:
        """Take an event in; returns the resource version to go on from, or nothing."""
        self._heard = self._clock()
        wire = event.get("object") or {}
        metadata = wire.get("metadata") or {}
        uid = str(metadata.get("uid", ""))
        if event.get("type") in ("ADDED", "MODIFIED"):
            kept = next(iter(self._kept([wire])), None)
            if kept is not None:
                moved = self._known.get(uid, kept).results != kept.results
                if moved:
                    self._forget(uid)
                self._known[uid] = kept
                self.on_seen(kept)
                if moved:
                    self.on_allocated_anew(kept.ref)
            else:
                self._forget(uid)
        elif event.get("type") == "DELETED":
            self._forget(uid)
        return str(metadata.get("resourceVersion", ""))

    def _forget(self, uid: str) -> None:
        self._known.pop(uid, None)
        self._doubtful.discard(uid)
        self._unprepared.discard(uid)

    def _kept(self, wires: Iterable[JsonObject]) -> Iterable[Claim]:
        for wire in wires:
            try:
                claim = parse_claim(wire)
            except ObjectRejected as error:
                # Whoever prepares it asks the API server, and tells the error to whom it concerns.
                log.debug("claim_not_read", error=str(error))
                continue
            if any(self._ours(result) for result in claim.results or ()):
                yield claim

    def _doubt(self, ref: ClaimRef, known: Claim | None) -> str:
        """Say why a claim cannot be answered from what is known, or nothing."""
        if known is None or (known.ref.namespace, known.ref.name) != (ref.namespace, ref.name):
            return "unknown"
        if ref.uid in self._doubtful:
            return "doubtful"
        return "" if self.trusted() else "unwatched"
