"""The watch itself: a kopf operator that handles raw events alone, so that no object ever bears a mark of ours.

kopf cancels every task of its event loop when it ends, and works through a listing object by object; so it has a
thread and an event loop of its own, and what it hears goes through delivery.py. Where it gives up (an API group that
is gone, rights that are missing) it is begun anew after a pause: what was known stays, and is compared with what is
listed then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import kopf
import structlog

from dra_driver import logs
from dra_driver.controller.delivery import Delivery
from dra_driver.controller.metrics import Metrics
from dra_driver.controller.observing import Kind
from dra_driver.controller.serving import Resource
from dra_driver.controller.session import Ear, listening_session
from dra_driver.kube.credentials import Credentials

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_BEAT_SECONDS = 1.0
# A listing of a large cluster keeps the interpreter busy, but not for so long.
_STUCK_SECONDS = 60.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_STOP_SECONDS = 10.0
_INSIST_SECONDS = 2.0
# A whole number: it becomes a parameter of the request.
_WATCH_SECONDS = 240
# The server sends a bookmark about once a minute on a watch without events.
_SILENCE_SECONDS = 90.0


def adopt_logs() -> None:
    """Let what kopf has to say come out as events of ours; to be called once in a process."""
    # Its errors are attempts that it repeats, or an end that is logged here.
    logs.adopt("kopf", level=logging.WARNING)
    logs.adopt("asyncio", level=logging.WARNING)
    # That it leaves signals alone is what it should do.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


class Operator:
    """One kopf operator at a time."""

    def __init__(
        self,
        resources: Mapping[Kind, Resource],
        credentials: Credentials,
        delivery: Delivery,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resources = resources
        self._credentials = credentials
        self._delivery = delivery
        self._metrics = metrics
        self._clock = clock
        self._beaten_at = clock()
        self._pausing = False

    def alive(self) -> bool:
        """Tell whether kopf's event loop still turns."""
        return self._pausing or self._clock() - self._beaten_at < _STUCK_SECONDS

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            begun = self._clock()
            error = await self._until_ended()
            self._metrics.watching_failed()
            pause = _FIRST_PAUSE if self._clock() - begun > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            log.error("watch_ended", error=str(error), kind=type(error).__name__, retry_seconds=pause)
            self._pausing = True
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            self._pausing, self._beaten_at = False, self._clock()

    async def _until_ended(self) -> BaseException | None:
        """Run one operator until it ends by itself, and return why; end it when cancelled."""
        stop: concurrent.futures.Future[None] = concurrent.futures.Future()
        ended: concurrent.futures.Future[BaseException | None] = concurrent.futures.Future()
        thread = threading.Thread(target=self._in_thread, args=(stop, ended), name="kopf", daemon=True)
        thread.start()
        try:
            return await asyncio.shield(asyncio.wrap_future(ended))
        finally:
            if not stop.done():
                stop.set_result(None)
            await asyncio.to_thread(thread.join, _STOP_SECONDS)

    def _in_thread(
        self, stop: concurrent.futures.Future[None], ended: concurrent.futures.Future[BaseException | None]
    ) -> None:
        try:
            asyncio.run(self._operate(stop))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must be known outside of this thread
            ended.set_result(error)
        else:
            ended.set_result(None)

    async def _operate(self, stop: concurrent.futures.Future[None]) -> None:
        # Made before the operator is, or it would be taken for a task of it.
        beat = asyncio.create_task(self._beat())
        leaving = asyncio.Event()
        operating = asyncio.create_task(
            kopf.operator(
                registry=self._registry(leaving),
                settings=_settings(),
                clusterwide=True,
                standalone=True,
                stop_flag=asyncio.wrap_future(stop),
            )
        )
        left = asyncio.create_task(leaving.wait())
        try:
            await asyncio.wait({operating, left}, return_when=asyncio.FIRST_COMPLETED)
            await _insist(operating, {beat, left})
            await operating
        finally:
            left.cancel()
            beat.cancel()

    async def _beat(self) -> None:
        while True:
            self._beaten_at = self._clock()
            await asyncio.sleep(_BEAT_SECONDS)

    def _registry(self, leaving: asyncio.Event) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        ear = Ear(
            self._credentials,
            {resource.path: kind for kind, resource in self._resources.items()},
            self._delivery,
            self._metrics,
        )

        @kopf.on.login(registry=registry)
        async def log_in(**_: Any) -> kopf.AiohttpSession:
            session = listening_session(self._credentials, ear)
            return kopf.AiohttpSession(server=self._credentials.server, aiohttp_session=session)

        @kopf.on.cleanup(registry=registry)
        async def leave(**_: Any) -> None:
            leaving.set()

        for kind, resource in self._resources.items():
            self._register(registry, kind, resource)
        return registry

    def _register(self, registry: kopf.OperatorRegistry, kind: Kind, resource: Resource) -> None:
        group_version = f"{resource.group}/{resource.version}".lstrip("/")

        @kopf.on.event(group_version, resource.plural, id=kind.value, registry=registry)
        async def heard(event: Any, **_: Any) -> None:
            self._delivery.heard_object(kind, event["type"], event["object"])


async def _insist(operating: asyncio.Task[None], ours: set[asyncio.Task[Any]]) -> None:
    """See an operator that is about to end to its end.

    A watch that kopf cancels together with what it waits for may take that for a pause, go on, and be waited for by
    kopf for good; cancelled once more, it ends.
    """
    keep = {operating, *ours, asyncio.current_task()}
    while not (await asyncio.wait({operating}, timeout=_INSIST_SECONDS))[0]:
        for task in asyncio.all_tasks() - keep:
            task.cancel()


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.process.ultimate_exiting_timeout = None
    settings.posting.enabled = False
    # Which kinds are served was asked before (serving.py), and does not change while the server runs.
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.networking.error_backoffs = _Endlessly()
    settings.networking.request_timeout = 60.0
    settings.networking.connect_timeout = 10.0
    settings.watching.connect_timeout = 10.0
    settings.watching.server_timeout = _WATCH_SECONDS
    settings.watching.inactivity_timeout = _SILENCE_SECONDS
    settings.watching.chunk_size = 500
    # Each object that changes has a task of its own for so long.
    settings.queueing.idle_timeout = 0.2
    settings.queueing.exit_timeout = 0.5
    return settings


class _NoDiffBase(kopf.DiffBaseStorage):
    """Nobody here asks what changed in an object, so nothing is kept, compared or written to tell."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _Endlessly(Iterable[float]):
    """Pauses between attempts, without an end: a watch that was open once is not given up for an outage."""

    def __iter__(self) -> Iterator[float]:
        """Rise quickly to some seconds, so that a server that is back is noticed soon."""
        pause = 0.1
        while True:
            yield pause * random.uniform(0.5, 1.5)
            pause = min(pause * 2, 5.0)
