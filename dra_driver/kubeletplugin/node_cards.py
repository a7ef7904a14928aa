"""The cards' side of the plugin, put together: what is known of them, what is held against them, how they are laid out.

What claims hold of the cards is known only when the checkpoint has been read, and reading it may need the cards; so
the cards are there first, as they were laid out last, and are laid out by the configuration when `holders` has said
who holds what.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from dra_driver.kube.claims import Claim
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim
from dra_driver.kubeletplugin.faults import FaultBook
from dra_driver.kubeletplugin.health_stream import HealthStream
from dra_driver.kubeletplugin.inventory import Inventory
from dra_driver.kubeletplugin.layouts import Layouts
from dra_driver.kubeletplugin.metrics import Metrics
from dra_driver.kubeletplugin.publish import TaintEffect
from dra_driver.kubeletplugin.reloading import ConfigurationWatch
from dra_driver.kubeletplugin.watching import CardWatch
from dra_driver.settings import PluginSettings
from drivers.backend import DeviceBackend

# The scheduler decides within milliseconds, and what it decided is seen in the watch of the claims soon after.
_DRAIN_SECONDS = 2.0
_POLL_SECONDS = 2.0


class NodeCards:
    """All cards of the node, from their libraries to what is published of them."""

    def __init__(
        self, settings: PluginSettings, backends: Mapping[str, DeviceBackend], *, metrics: Metrics, boot_id: str
    ) -> None:
        folder = settings.plugin_folder
        self._settings = settings
        self._backends = backends
        self._metrics = metrics
        self._holders: Callable[[], Set[str]] | None = None
        self._leads: Callable[[], bool] = lambda: False
        self._faults = FaultBook(
            quiet_seconds=settings.fault_quiet_seconds, clock=time.time, folder=folder, boot_id=boot_id
        )
        self._layouts = Layouts(
            settings.cards,
            node=settings.node_name,
            held=self._held,
            leads=self._is_to_decide,
            folder=folder,
            drain_seconds=_DRAIN_SECONDS,
        )
        self.inventory = Inventory(
            driver=settings.driver_name,
            node=settings.node_name,
            backends=backends,
            faults=self._faults,
            layouts=self._layouts,
            effect=TaintEffect(settings.unhealthy_effect),
        )
        self.health = HealthStream(
            pools=self.inventory.pools, looked_at=self.inventory.looked_at, scan_seconds=settings.scan_seconds
        )

    def start(self) -> None:
        """Read what an earlier process left, and look for the first time. Blocks. Raises OSError."""
        self._settings.plugin_folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._faults.load()
        self._layouts.load()
        self.inventory.look()

    def holders(
        self,
        recorded: Callable[[], Iterable[PreparedClaim]],
        allocated: Callable[[], Iterable[Claim]],
        *,
        leads: Callable[[], bool],
    ) -> None:
        """Lay the cards out by the configuration, now that it can be told what claims hold of them. Blocks.

        `leads`: whether it is for this process to decide.
        """

        def held() -> Set[str]:
            cards = self.inventory.cards()
            of_records = {share.device_uuid for claim in recorded() for share in claim.shares}
            results = [result for claim in allocated() for result in claim.results or ()]
            places = {(result.pool, result.device) for result in results if result.driver == self._settings.driver_name}
            return of_records | {cards[place].device.uuid for place in places if place in cards}

        self._holders = held
        self._leads = leads
        self.inventory.look()

    def loops(self, changed: Sequence[Callable[[], None]]) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run for as long as the plugin does; `changed` hear of every change."""
        watch = CardWatch(
            inventory=self.inventory,
            faults=self._faults,
            backends=self._backends,
            scan_seconds=self._settings.scan_seconds,
            changed=[*changed, self.health.changed],
            noticed=self._metrics.noticed,
        )

        def configured(taken: bool) -> None:
            self._metrics.configured(taken)
            watch.tell()
            # When free cards have been drained, they wait for nobody else.
            asyncio.get_running_loop().call_later(_DRAIN_SECONDS, watch.look_soon)

        loops = [watch.run()]
        if self._settings.config_file:
            path = Path(self._settings.config_file)
            reading = ConfigurationWatch(
                path, configure=self.inventory.configure, outcome=configured, poll_seconds=_POLL_SECONDS
            )
            loops.append(reading.run())
        return loops

    def _held(self) -> Set[str] | None:
        return self._holders() if self._holders is not None else None

    def _is_to_decide(self) -> bool:
        return self._leads()
