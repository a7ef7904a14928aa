"""The rigs on which the suite runs: one a vendor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.nvidia_rig import NvidiaRig
from tests.contract.rig import Rig

RIGS: dict[str, Callable[[Path], Rig]] = {"nvidia": NvidiaRig}


@pytest.fixture(params=sorted(RIGS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A fresh machine of each vendor."""
    made = RIGS[request.param](tmp_path)
    yield made
    made.end()
