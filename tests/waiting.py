"""Waiting for what a cluster does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T | None], *, what: str, timeout: float = 90.0, every: float = 0.2) -> T:
    """Look again and again until there is something; fails with `what` and the last look."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what} (last seen: {found!r})")
        time.sleep(every)
    return found
