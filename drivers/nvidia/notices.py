"""Tells the log about cards that cannot be used when that changes, and not at every look at them."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from drivers.nvidia.description import VENDOR

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Notices:
    """What the log was told last. `device_uuid` may be the index of a card that never told its UUID."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, reasons: Mapping[str, str]) -> None:
        """Take the reason of each card that cannot be used now; cards that can are not in it."""
        for card, reason in reasons.items():
            if self._told.get(card) != reason:
                log.error("card_unusable", vendor=VENDOR, device_uuid=card, reason=reason)
        for card in self._told.keys() - reasons.keys():
            log.info("card_usable_again", vendor=VENDOR, device_uuid=card)
        self._told = dict(reasons)
