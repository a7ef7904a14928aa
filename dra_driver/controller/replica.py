"""One replica of the controller: it watches always, and acts while it leads."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence

import structlog

from dra_driver.controller.delivery import Delivery
from dra_driver.controller.lease import Leadership
from dra_driver.controller.metrics import Metrics
from dra_driver.controller.observing import Kind, Observer
from dra_driver.controller.operator import Operator
from dra_driver.controller.serving import Resource, served
from dra_driver.errors import HamiDraError
from dra_driver.kube.connection import Connection
from dra_driver.kube.credentials import Credentials

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Replica:
    """See the module."""

    def __init__(
        self,
        connection: Connection,
        credentials: Credentials,
        leadership: Leadership,
        observers: Sequence[Observer],
        metrics: Metrics,
    ) -> None:
        self._connection = connection
        self._credentials = credentials
        self._leadership = leadership
        self._observers = observers
        self._metrics = metrics
        self._delivery: Delivery | None = None
        self._operator: Operator | None = None

    def synced(self) -> bool:
        """Tell whether everything that exists is known."""
        return self._delivery is not None and self._delivery.synced.is_set()

    def watching(self) -> bool:
        """Tell whether the watch works, or will again by itself."""
        if self._operator is None or self._delivery is None:
            return True
        # Where the API server answers, a watch that has been silent for long is broken.
        return self._operator.alive() and not (self._leadership.hears() and self._delivery.silent())

    async def work(self) -> None:
        """Watch, and act while leading, until cancelled."""
        resources = await self._resources()
        delivery = Delivery(resources, self._observers, self._metrics)
        self._operator = Operator(resources, self._credentials, delivery, self._metrics)
        self._delivery = delivery
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._operator.run())
            tasks.create_task(self._lead(delivery))

    async def _resources(self) -> Mapping[Kind, Resource]:
        kinds = frozenset(kind for observer in self._observers for kind in observer.kinds)
        pause = _FIRST_PAUSE
        while True:
            try:
                return await served(self._connection, kinds)
            except HamiDraError as error:
                log.error("kinds_not_known", error=str(error), retry_seconds=round(pause, 1))
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _lead(self, delivery: Delivery) -> None:
        await delivery.synced.wait()
        await self._leadership.run(self._act)

    async def _act(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for observer in self._observers:
                tasks.create_task(self._keep_acting(observer))
            # Parts may have nothing to do; to lead is something none the less.
            await asyncio.Event().wait()

    async def _keep_acting(self, observer: Observer) -> None:
        """Let a part act; one that fails is begun anew after a pause, and stops no other."""
        part, pause = type(observer).__name__, _FIRST_PAUSE
        while True:
            begun = time.monotonic()
            try:
                await observer.act()
                return
            except Exception:
                self._metrics.failed(part)
                pause = _FIRST_PAUSE if time.monotonic() - begun > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
                log.exception("part_failed", part=part, retry_seconds=round(pause, 1))
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
