"""Fixtures for tests on simulated cards. They build nothing: the Makefile has put the libraries in place."""

from collections.abc import Iterator
from pathlib import Path

import install
import pytest

from tests.simgpu import installation


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[installation.Installation]:
    """A machine with two cards of 16 GiB."""
    missing = [name for name in install.LIBRARIES if not (installation.LIBRARIES / name).exists()]
    assert not missing, f"{missing} not in {installation.LIBRARIES}: run make first"
    made = installation.make(tmp_path / "machine")
    yield made
    made.end_clients()
