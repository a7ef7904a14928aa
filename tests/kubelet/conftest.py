"""A plugin on folders of its own, for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubelet.plugin import Plugin, short_folder


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with short_folder() as folder:
        yield Plugin(folder)
