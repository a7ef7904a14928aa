"""A node with two cards, on folders of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.situation import PAIR, TRAIN, WHOLE
from tests.support.backend import MemoryBackend, card
from tests.support.node import MemoryNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[MemoryNode]:
    """Nothing is prepared on it yet; three claims are allocated to it."""
    one = MemoryNode(tmp_path, MemoryBackend(card(0), card(1)))
    one.given(TRAIN, PAIR, WHOLE)
    yield one
    # Whatever happened, no half-written file lies about.
    assert not list(tmp_path.rglob(".*.tmp"))
