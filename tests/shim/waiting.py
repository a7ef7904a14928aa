"""Waits for what another process will do, with a generous limit."""

import time
from collections.abc import Callable

PATIENCE_S = 20.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when `condition` holds; fails after PATIENCE_S seconds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)
