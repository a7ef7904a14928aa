"""What must be true of a process: one answer, whoever asks for it, by gRPC or by HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Conditions:
    """What must be true for a process to be called alive, or ready: by name, as it stands now."""

    def __init__(self, conditions: Mapping[str, Callable[[], bool]]) -> None:
        self._conditions = dict(conditions)

    def missing(self) -> tuple[str, ...]:
        """Name the conditions that do not hold now."""
        return tuple(name for name, holds in self._conditions.items() if not holds())
