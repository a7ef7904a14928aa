"""The fixtures of the shim's tests. They build nothing: the Makefile has put the libraries in place.

A test that asks for `container` runs on a simulated card and, with HAMI_DRA_TEST_GPU=real, on this machine's own: it
has the mark `gpu` by that alone. One that asks for `tenant` needs a card that tells what happened on it, or that does
what no real card can be asked for.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim import real_card
from tests.shim.tenants import SHIM, Container, Tenant
from tests.simgpu import installation


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what runs on a real card, and skips the rest where there is one."""
    for item in items:
        if "tests/shim/" not in item.path.as_posix():
            continue
        if "container" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.gpu)
        elif real_card.is_wanted():
            item.add_marker(pytest.mark.skip(reason="needs the simulated card"))


def _check_place() -> None:
    assert SHIM.exists(), f"{SHIM} is not built"
    assert not os.access("/run/vgpu/shares", os.F_OK), "this machine has real shares: VGPU_SHARES_DIR would be ignored"


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    """Two simulated cards of 16 GiB, no share yet."""
    _check_place()
    made = installation.make(tmp_path / "machine")
    yield Tenant(made, tmp_path / "shares")
    made.end_clients()


@pytest.fixture
def container(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Container]:
    """The same on whatever card is asked for: the simulated ones, or those of this machine."""
    if not real_card.is_wanted():
        yield request.getfixturevalue("tenant")
        return
    _check_place()
    machine = real_card.machine(tmp_path / "machine")
    yield Container(machine, tmp_path / "shares")
    machine.end_clients()
