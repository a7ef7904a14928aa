"""The cards of this node, by vendor: looked at again and again, remembered in between.

A vendor whose library stops answering keeps its cards, marked unhealthy: hiding them would make running claims
point at nothing, and showing them as they were would bring them new work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import structlog

from dra_driver.kubeletplugin.plan import Card
from dra_driver.kubeletplugin.publish import Pool, pool_name
from drivers.backend import DeviceBackend
from drivers.errors import DriverError
from drivers.model import Device

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Inventory:
    """What the backends told last."""

    def __init__(self, *, driver: str, node: str, backends: Mapping[str, DeviceBackend]) -> None:
        self._driver = driver
        self._node = node
        self._backends = backends
        self._devices: dict[str, tuple[Device, ...]] = dict.fromkeys(backends, ())
        self._failing: dict[str, str] = {}

    def look(self) -> bool:
        """Ask all backends, blocking; tells whether anything has changed."""
        before = dict(self._devices)
        for vendor, backend in self._backends.items():
            self._devices[vendor] = self._ask(vendor, backend)
        return self._devices != before

    def cards(self) -> Mapping[tuple[str, str], Card]:
        """All cards by (pool, device name)."""
        return {(pool.name, device.name): Card(pool.name, device) for pool in self.pools() for device in pool.devices}

    def pools(self) -> tuple[Pool, ...]:
        """One pool for each vendor, empty where no card is known."""
        return tuple(
            Pool(pool_name(self._node, vendor), self._driver, self._node, devices)
            for vendor, devices in self._devices.items()
        )

    def _ask(self, vendor: str, backend: DeviceBackend) -> tuple[Device, ...]:
        try:
            devices = backend.discover()
        except DriverError as error:
            self._report(vendor, str(error))
            return tuple(dataclasses.replace(card, unhealthy=str(error)) for card in self._devices[vendor])
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
