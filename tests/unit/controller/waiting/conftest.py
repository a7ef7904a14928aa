"""A scene in which the observer acts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dra_driver.controller.waiting import claims
from tests.unit.controller.waiting.scene import Scene, acting


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """The observer leads, and is less patient than in a cluster."""
    for name in ("_PATIENCE", "_PATIENCE_WITH_NODE", "_PATIENCE_WITH_SCHEDULER", "_QUIET_SECONDS", "_ROUND_SECONDS"):
        monkeypatch.setattr(claims, name, 0.05)
    async with acting(Scene()) as scene:
        yield scene
