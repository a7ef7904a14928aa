"""Which layout each card has now, while the configuration changes under it.

A card is never torn from under those who hold something of it: it keeps its layout until the last share is gone, and
takes no new work meanwhile. A free card is drained for a moment too, for the scheduler may have given part of it away
just before, and what it gave is seen only then.

Layouts in effect are kept on disk, so that a restart with another configuration knows what the claims on the node name.
Of two plugins that live side by side during an update one leads, and the other takes over what it decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict

from dra_driver.configuration import Cards
from dra_driver.errors import SettingsRejected
from dra_driver.kubeletplugin.joint_file import JointFile
from dra_driver.kubeletplugin.layout import Layout, LayoutImpossible, wanted_layout
from drivers.model import Device

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FILE_NAME = "layouts.json"


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    layouts: dict[str, Layout]


@dataclass(frozen=True)
class LaidOut:
    """A card with its layout; `draining` when it waits for its shares to go, to be laid out anew."""

    device: Device
    layout: Layout
    draining: bool


class Layouts:
    """The layouts in effect, by the card's UUID. To be used by one thread at a time."""

    def __init__(
        self,
        cards: Cards | None = None,
        *,
        node: str,
        held: Callable[[], Set[str] | None],
        leads: Callable[[], bool] = lambda: True,
        folder: Path | None = None,
        drain_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`held`: UUIDs of cards that claims hold something of, None: not known yet. `folder`: None keeps nothing.

        `leads`: whether this process decides, and no other plugin of the node.
        `drain_seconds`: for how long at least a card that was published is drained before it is laid out anew.
        """
        self._cards = cards or Cards()
        self._node = node
        self._held = held
        self._leads = leads
        self._file = JointFile(folder / FILE_NAME if folder is not None else None, _File)
        self._in_effect: dict[str, Layout] = {}
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._draining_since: dict[str, float] = {}
        self._waiting: dict[str, Layout] = {}
        self._impossible: dict[str, str] = {}

    def load(self) -> None:
        """Read the layouts that an earlier process left. A file that cannot be read is none."""
        if (file := self._file.news()) is not None:
            self._in_effect = dict(file.layouts)

    def configure(self, cards: Cards, devices: Sequence[Device]) -> None:
        """Take another configuration, if it suits all cards; it comes into effect with `settle`.

        Raises:
            SettingsRejected: a card cannot be cut so; the configuration before stays.
        """
        for device in devices:
            try:
                wanted_layout(device, cards, node=self._node)
            except LayoutImpossible as error:
                raise SettingsRejected(f"cards: card {device.name} ({device.uuid}): {error}") from error
        self._cards = cards

    def settle(self, devices: Sequence[Device]) -> tuple[LaidOut, ...]:
        """Give every card the layout that it should have, or that it must keep for now."""
        held = self._held()
        if held is None or not self._leads():
            self.load()
            return tuple(LaidOut(device, self._in_effect.get(device.uuid, Layout()), False) for device in devices)
        with self._file.changing():
            self.load()
            before = dict(self._in_effect)
            laid_out = tuple(self._settle_one(device, device.uuid in held) for device in devices)
            if self._in_effect != before or self._file.behind:
                # Without them a restart only takes a card in use for a shared one.
                self._file.write(_File(layouts=self._in_effect))
        return laid_out

    def _settle_one(self, device: Device, held: bool) -> LaidOut:
        # A card in use that nothing is known of was published by a version that knew no layouts.
        current = self._in_effect.get(device.uuid, Layout() if held else None)
        wanted = self._wanted(device, current)
        if current is not None and not _same_devices(current, wanted) and self._must_wait(device, wanted, held):
            self._in_effect[device.uuid] = current
            return LaidOut(device, current, draining=True)
        self._waiting.pop(device.uuid, None)
        self._draining_since.pop(device.uuid, None)
        if current is not None and current != wanted:
            log.info("card_layout_changed", device=device.name, device_uuid=device.uuid, layout=wanted.model_dump())
        self._in_effect[device.uuid] = wanted
        return LaidOut(device, wanted, draining=False)

    def _wanted(self, device: Device, current: Layout | None) -> Layout:
        """Ask the configuration. A card that it does not suit stays as it is, or is shared: it is not lost for that."""
        try:
            wanted = wanted_layout(device, self._cards, node=self._node)
        except LayoutImpossible as error:
            if self._impossible.get(device.uuid) != str(error):
                log.error("card_layout_impossible", device=device.name, device_uuid=device.uuid, error=str(error))
            self._impossible[device.uuid] = str(error)
            return current or Layout()
        self._impossible.pop(device.uuid, None)
        return wanted

    def _must_wait(self, device: Device, wanted: Layout, held: bool) -> bool:
        since = self._draining_since.setdefault(device.uuid, self._clock())
        if held:
            self._say_that_it_waits(device, wanted)
        return held or self._clock() - since < self._drain_seconds

    def _say_that_it_waits(self, device: Device, wanted: Layout) -> None:
        if self._waiting.get(device.uuid) != wanted:
            log.warning(
                "card_layout_waits",
                device=device.name,
                device_uuid=device.uuid,
                layout=wanted.model_dump(),
                reason="shares of the card are in use; it takes no new ones, and is laid out anew when they are gone",
            )
        self._waiting[device.uuid] = wanted


def _same_devices(one: Layout, other: Layout) -> bool:
    """Tell whether claims name the same devices of the same sizes in both: how many tenants there may be differs."""
    return one.model_copy(update={"shares": None}) == other.model_copy(update={"shares": None})
