"""The fixture of the shim's tests. It builds nothing: the Makefile has put the libraries in place."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.tenants import SHIM, Tenant
from tests.simgpu import installation


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    """Two cards of 16 GiB, no share yet."""
    assert SHIM.exists(), f"{SHIM} is not built"
    assert not os.access("/run/vgpu/shares", os.F_OK), "this machine has real shares: VGPU_SHARES_DIR would be ignored"
    made = installation.make(tmp_path / "machine")
    yield Tenant(made, tmp_path / "shares")
    made.end_clients()
