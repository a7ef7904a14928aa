"""What takes from others, and what a namespace's label must allow before its claims may have it."""

from __future__ import annotations

from enum import StrEnum

_PREFIX = "vgpu.hami.io/allow-"


class Feature(StrEnum):
    """What may need a label; the value is how settings name it."""

    HIGH_PRIORITY = "high-priority"
    OVERSUBSCRIBE = "oversubscribe"

    @property
    def label(self) -> str:
        """The label that allows it, with the value `true`."""
        return f"{_PREFIX}{self.value}"
