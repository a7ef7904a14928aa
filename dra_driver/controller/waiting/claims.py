"""The observer of waiting claims: each says why it waits, soon after it begins to, and again when the reason changes.

A claim gets half a second to be allocated before it counts as waiting. What is said is compared with what stands on
the claim already: where that means the same, nothing is written, whoever wrote it. A reason that comes and goes is told
less and less often.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from dra_driver.controller.observing import Change, Kind
from dra_driver.controller.waiting.answers import Answer, Answers
from dra_driver.controller.waiting.due import Due
from dra_driver.controller.waiting.metrics import WaitingMetrics
from dra_driver.controller.waiting.news import ClaimNews, PodNews
from dra_driver.controller.waiting.picture import Picture, Watched
from dra_driver.controller.waiting.record import Record, does_not_fit, fits, not_prepared
from dra_driver.controller.waiting.telling import Teller, pod_reference
from dra_driver.errors import HamiDraError, ObjectRejected
from dra_driver.explain.explanation import Verdict
from dra_driver.explain.state import asks_for
from dra_driver.explain.surveys import Kindred, kindred
from dra_driver.kube.connection import Connection
from dra_driver.kube.errors import Conflict, Forbidden, NotFound
from dra_driver.kube.events import ApiEvents, ObjectRef

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# To be allocated, or prepared at the second attempt, is no wait.
_PATIENCE = 0.5
_PATIENCE_WITH_NODE = 2.0
# Cards are free: the scheduler needs a moment; after that it is something else that the pod waits for.
_PATIENCE_WITH_SCHEDULER = 10.0
_AT_ONCE = 16
# A claim that has said something says the next thing not before this, and twice as long each time.
_QUIET_SECONDS = 2.0
_LONGEST_QUIET_SECONDS = 300.0
_LONGEST_PAUSE = 60.0
_ROUND_SECONDS = 1.0
# Looking again at what changed takes a fifth of one processor at most.
_REST = 4


@dataclass
class _Kin:
    """All waiting claims of one kind, and what was found of them last."""

    one: Watched
    uids: set[str] = field(default_factory=set)
    meaning: object = None


class WaitingClaims:
    """See observing.Observer."""

    kinds = frozenset({Kind.CLAIMS, Kind.SLICES, Kind.CLASSES, Kind.NODES, Kind.TAINT_RULES, Kind.PODS})

    def __init__(
        self,
        connection: Connection,
        events: ApiEvents,
        registry: CollectorRegistry,
        *,
        driver: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """What is written goes through `connection` and `events`."""
        self._driver = driver
        self._clock = clock
        self._now = now
        self._due = Due(clock)
        self._picture = Picture(driver, clock=clock, now=self._time, news=self._heard, gone=self._gone)
        self._metrics = WaitingMetrics(registry, waiting=self._waiting, queued=lambda: len(self._due))
        self._answers = Answers(self._picture.index, self._metrics)
        self._teller = Teller(connection, events)
        self._kin: dict[Kindred, _Kin] = {}
        self._failures: Counter[str] = Counter()
        self._writers = asyncio.Semaphore(_AT_ONCE)

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """See Observer."""
        try:
            self._picture.saw(kind, change, wire)
        except ObjectRejected as error:
            log.warning("object_not_understood", kind=kind.value, error=str(error))

    async def act(self) -> None:
        """See Observer."""
        self._writers = asyncio.Semaphore(_AT_ONCE)
        for one in self._picture.claims.values():
            one.writing = False
            self._heard(one)
        async with asyncio.TaskGroup() as tasks:
            await self._answers.warm()
            tasks.create_task(self._look(tasks))
            tasks.create_task(self._look_again())

    def _heard(self, one: Watched) -> None:
        """Something changed about a claim that waits, or that says so."""
        patience = 0.0
        if one.waits:
            patience = _PATIENCE_WITH_NODE if one.news.allocated else _PATIENCE
        self._due.put(one.uid, self._clock() + patience)

    def _gone(self, uid: str) -> None:
        self._due.drop(uid)
        self._failures.pop(uid, None)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """Look at claims when they are due."""
        while True:
            one = self._picture.claims.get(await self._due.next())
            if one is None or one.writing:
                continue
            news = one.news
            try:
                record = await self._wanted(one)
            except Exception:
                # One claim must not keep all others from being told.
                log.exception("claim_not_explained", claim=f"ResourceClaim {one.claim.path}", uid=one.uid)
                self._metrics.wrote("failed")
                self._due.put(one.uid, self._clock() + _LONGEST_PAUSE)
                continue
            if self._picture.claims.get(one.uid) is not one or self._says(one, record):
                continue
            if one.news is not news:
                # It may be allocated by now: what was found out is not about this claim any more.
                self._due.put(one.uid, self._clock())
                continue
            if record is not None and self._clock() < one.quiet_until:
                self._due.put(one.uid, one.quiet_until)
                continue
            await self._writers.acquire()
            one.writing = True
            tasks.create_task(self._write(one, news, record))

    @staticmethod
    def _says(one: Watched, record: Record | None) -> bool:
        """Whether the claim says that already."""
        if record is None or one.record is None:
            return record is one.record
        return record.meaning == one.record.meaning

    async def _wanted(self, one: Watched) -> Record | None:
        """What the claim should say now; what it says already where that is to stay."""
        if one.news.allocated:
            return not_prepared(one.news.unready) if one.news.unready else None
        pod = one.pod
        if pod is None or not asks_for(self._driver, one.claim, self._picture.index.classes):
            return None
        kind = kindred(one.claim, pod.placing)
        kin = self._kin.setdefault(kind, _Kin(one))
        kin.uids.add(one.uid)
        answer = await self._answers.explain(kind, one.claim, pod.placing)
        if answer.explanation.verdict is Verdict.FITS:
            return self._unless_scheduled(one, answer, pod)
        one.fitting_since = None
        record = does_not_fit(answer.explanation, (), pod)
        kin.meaning = record.meaning
        if self._says(one, record):
            return one.record
        return does_not_fit(answer.explanation, await self._answers.suggestions(answer), pod)

    def _unless_scheduled(self, one: Watched, answer: Answer, pod: PodNews) -> Record | None:
        """Cards are free: only where the scheduler has refused the pod for long there is something to say."""
        now = self._clock()
        one.fitting_since = now if one.fitting_since is None else one.fitting_since
        wait = one.fitting_since + _PATIENCE_WITH_SCHEDULER - now
        if wait > 0:
            self._due.put(one.uid, now + wait)
            return one.record
        return fits(answer.explanation, pod) if pod.observed else one.record

    async def _write(self, one: Watched, news: ClaimNews, record: Record | None) -> None:
        try:
            await self._say(one, news, record)
            self._failures.pop(one.uid, None)
        except HamiDraError as error:
            self._failed(one, error)
        finally:
            one.writing = False
            self._writers.release()

    async def _say(self, one: Watched, news: ClaimNews, record: Record | None) -> None:
        """Write it on the claim as it was in `news`; on any other the API server refuses the record."""
        before, pod = one.record, self._user(one)
        keys = {"claim": f"ResourceClaim {one.claim.path}", "uid": one.uid}
        if record is None:
            assert before is not None
            seconds = self._since(before)
            why = "it has its cards" if news.allocated else "no pod waits for it any more"
            version = await self._teller.ended(one.claim, news.resource_version, pod, before, seconds=seconds, why=why)
            self._metrics.wrote("ended")
            self._metrics.waited(seconds)
            log.info("claim_wait_ended", reason=before.code, waited_seconds=round(seconds, 1), **keys)
        else:
            record = record.model_copy(
                update={
                    "number": before.number + 1 if before else 1,
                    "since": before.since if before else one.since,
                    "written": self._time(),
                }
            )
            version = await self._teller.waits(one.claim, news.resource_version, pod, record)
            self._metrics.wrote("written")
            if before is None:
                self._metrics.explained(self._clock() - one.seen)
            one.quiet_until = self._clock() + min(_QUIET_SECONDS * 2**one.writes, _LONGEST_QUIET_SECONDS)
            one.writes += 1
            log.info("claim_waits", reason=record.code, verdict=record.verdict, **keys)
        self._note(one, news, version, record)

    def _note(self, one: Watched, news: ClaimNews, version: str, record: Record | None) -> None:
        """Remember what was written, unless the watch has brought it already, or something newer."""
        if one.news is news:
            one.record = record
            one.news = replace(news, resource_version=version, written=record.text() if record else None)
        if one.waits:
            # Something may have changed meanwhile.
            self._due.put(one.uid, self._clock() + _PATIENCE)

    def _failed(self, one: Watched, error: HamiDraError) -> None:
        self._failures[one.uid] += 1
        keys = {"claim": f"ResourceClaim {one.claim.path}", "uid": one.uid, "error": str(error)}
        leaving = isinstance(error, Forbidden) and "being terminated" in str(error)
        if isinstance(error, NotFound) or leaving:
            self._metrics.wrote("dropped")
            log.info("claim_gone", **keys)
            return
        pause = min(_PATIENCE * 2 ** (self._failures[one.uid] - 1), _LONGEST_PAUSE)
        self._metrics.wrote("put off")
        level = log.debug if isinstance(error, Conflict) else log.warning
        level("claim_not_told", retry_seconds=pause, **keys)
        self._due.put(one.uid, self._clock() + pause)

    @staticmethod
    def _user(one: Watched) -> ObjectRef | None:
        """The pod that waits for the claim, or uses it."""
        namespace = one.claim.metadata.namespace
        if one.pod is not None:
            return pod_reference(namespace, one.pod.name, one.pod.uid)
        users = [user for user in one.claim.status.reserved_for if user.resource == "pods" and user.uid]
        return pod_reference(namespace, users[0].name, users[0].uid) if users else None

    async def _look_again(self) -> None:
        """Find out for which claims a change of the cluster changes the reason."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            for kind, kin in list(self._kin.items()):
                kin.uids &= self._picture.claims.keys()
                claims = [self._picture.claims[uid] for uid in kin.uids]
                if not claims:
                    del self._kin[kind]
                    self._answers.drop(kind)
                elif self._answers.stale(kind):
                    kin.one = claims[0]
                    await asyncio.sleep(_REST * await self._renew(kind, kin))

    async def _renew(self, kind: Kindred, kin: _Kin) -> float:
        """Look at a kind of claims again; returns the seconds that it took."""
        begun = time.perf_counter()
        pod = kin.one.pod
        if pod is None or kindred(kin.one.claim, pod.placing) != kind:
            kin.uids.discard(kin.one.uid)
            return 0.0
        try:
            answer = await self._answers.explain(kind, kin.one.claim, pod.placing)
        except Exception:
            log.exception("claim_not_explained", claim=f"ResourceClaim {kin.one.claim.path}", uid=kin.one.uid)
            kin.uids.clear()
            return 0.0
        fit = answer.explanation.verdict is Verdict.FITS
        meaning = "fits" if fit else does_not_fit(answer.explanation, (), pod).meaning
        if meaning != kin.meaning:
            kin.meaning = meaning
            for uid in kin.uids:
                self._due.put(uid, self._clock())
        return time.perf_counter() - begun

    def _waiting(self) -> Mapping[str, int]:
        found: dict[str, int] = defaultdict(int)
        for one in self._picture.claims.values():
            if one.record is not None:
                found[one.record.code] += 1
        return found

    def _since(self, record: Record) -> float:
        try:
            return (self._now() - datetime.fromisoformat(record.since.replace("Z", "+00:00"))).total_seconds()
        except ValueError:
            return 0.0

    def _time(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
