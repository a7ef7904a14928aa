"""The cards of this node, by vendor: looked at again and again, remembered in between.

A vendor whose library stops answering keeps its cards, marked unhealthy: hiding them would make running claims
point at nothing, and showing them as they were would bring them new work.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from threading import Lock

import structlog

from dra_driver.configuration import Cards
from dra_driver.kubeletplugin.faults import FaultBook
from dra_driver.kubeletplugin.layout import Published, publish
from dra_driver.kubeletplugin.layouts import LaidOut, Layouts
from dra_driver.kubeletplugin.plan import Card
from dra_driver.kubeletplugin.publish import Pool, TaintEffect, pool_name
from drivers.backend import DeviceBackend
from drivers.errors import DriverError
from drivers.model import Device

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

UNAVAILABLE = "backend-unavailable"


class Inventory:
    """What the backends told last, as it is to be published. Its methods may be called from several threads."""

    def __init__(
        self,
        *,
        driver: str,
        node: str,
        backends: Mapping[str, DeviceBackend],
        faults: FaultBook | None = None,
        layouts: Layouts | None = None,
        effect: TaintEffect = TaintEffect.NO_SCHEDULE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`effect`: what an unhealthy card's taint does; without `faults` and `layouts` the cards are as told."""
        self._driver = driver
        self._node = node
        self._backends = backends
        self._faults = faults
        self._layouts = layouts or Layouts(node=node, held=frozenset)
        self._effect = effect
        self._clock = clock
        self._looking = Lock()
        self._looked_at = 0.0
        self._told: dict[str, tuple[Device, ...]] = dict.fromkeys(backends, ())
        self._laid_out: dict[str, tuple[LaidOut, ...]] = dict.fromkeys(backends, ())
        self._cards: Mapping[tuple[str, str], Card] = {}
        self._failing: dict[str, str] = {}

    def look(self) -> bool:
        """Ask all backends, blocking; tells whether anything has changed."""
        with self._looking:
            self._told = {vendor: self._ask(vendor, backend) for vendor, backend in self._backends.items()}
            self._looked_at = self._clock()
            return self._settle()

    def looked_at(self) -> float:
        """When the cards were looked at last, in seconds since the epoch."""
        return self._looked_at

    def configure(self, cards: Cards) -> None:
        """Lay the cards out by another configuration, as far as they are free. Raises SettingsRejected."""
        with self._looking:
            self._layouts.configure(cards, [device for devices in self._told.values() for device in devices])
            self._settle()

    def devices(self) -> tuple[Device, ...]:
        """All cards as they are, whatever is published of them."""
        return tuple(one.device for cards in self._laid_out.values() for one in cards)

    def cards(self) -> Mapping[tuple[str, str], Card]:
        """All published devices by (pool, device name), with the cards that they are on."""
        return self._cards

    def pools(self) -> tuple[Pool, ...]:
        """One pool for each vendor, empty where no card is known."""
        return tuple(self._pool(vendor, cards) for vendor, cards in self._laid_out.items())

    def _pool(self, vendor: str, cards: tuple[LaidOut, ...]) -> Pool:
        pairs: list[tuple[Published, bool]] = [
            (one, laid_out.draining) for laid_out in cards for one in publish(laid_out.device, laid_out.layout)
        ]
        return Pool(
            pool_name(self._node, vendor),
            self._driver,
            self._node,
            tuple(one.device for one, _ in pairs),
            draining=frozenset(one.device.name for one, draining in pairs if draining),
            effect=self._effect,
        )

    def _settle(self) -> bool:
        before = self._laid_out
        self._laid_out = {
            vendor: self._layouts.settle(self._faults.judge(devices) if self._faults else devices)
            for vendor, devices in self._told.items()
        }
        if self._laid_out == before:
            return False
        self._cards = {
            (pool_name(self._node, vendor), one.device.name): Card(pool_name(self._node, vendor), one.card, one.device)
            for vendor, cards in self._laid_out.items()
            for laid_out in cards
            for one in publish(laid_out.device, laid_out.layout)
        }
        return True

    def _ask(self, vendor: str, backend: DeviceBackend) -> tuple[Device, ...]:
        try:
            devices = backend.discover()
        except DriverError as error:
            self._report(vendor, str(error))
            return tuple(
                dataclasses.replace(card, unhealthy=str(error), unhealthy_code=UNAVAILABLE)
                for card in self._told[vendor]
            )
        self._report(vendor, "")
        return devices

    def _report(self, vendor: str, failure: str) -> None:
        """Log a change of a backend's state, once."""
        before = self._failing.get(vendor, "")
        self._failing[vendor] = failure
        if failure and failure != before:
            log.error("backend_unavailable", vendor=vendor, error=failure)
        elif before and not failure:
            log.info("backend_recovered", vendor=vendor)
