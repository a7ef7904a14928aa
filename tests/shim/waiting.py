"""Waits for what another process will do, with a generous limit."""

from collections.abc import Callable

from tests.waiting import eventually

PATIENCE_S = 20.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when `condition` holds; fails after PATIENCE_S seconds."""
    eventually(condition, what="the condition comes true", timeout=PATIENCE_S, every=0.02)
