"""`make test-gpu` must never pass because there was nothing to test on, and its tests must run when there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simgpu import installation
from tools.realgpu import NoRealCardError, count_cards


def test_a_machine_without_the_kernel_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRealCardError, match="kernel driver is not loaded"):
        count_cards(kernel_driver=tmp_path / "version")


def test_a_machine_without_the_library_is_refused(tmp_path: Path) -> None:
    loaded = tmp_path / "version"
    loaded.touch()
    with pytest.raises(NoRealCardError, match="cannot be loaded"):
        count_cards(kernel_driver=loaded, library=str(tmp_path / "libcuda.so.1"))


@pytest.fixture
def driver(tmp_path: Path) -> installation.Installation:
    """A machine on which the loader finds a driver by itself, as on one with a real card."""
    return installation.make(tmp_path / "machine")


def test_what_is_found_is_told_card_by_card(driver: installation.Installation) -> None:
    code = "from tools.realgpu import *; print(count_cards(Path('/')), *describe_cards(), sep='\\n')"
    told = driver.command(sys.executable, "-c", code, PYTHONPATH=str(installation.REPOSITORY)).stdout.splitlines()
    assert told[0] == "2"
    assert told[1].startswith("driver ")
    assert [line.split(":")[0] for line in told[2:]] == ["card 0", "card 1"]
    assert driver.uuids[1] in told[3]
    assert "16384 of 16384 MiB free" in told[3]


def test_the_form_for_a_real_card_runs_by_the_loaders_driver_and_leaves_the_rest_out(
    driver: installation.Installation,
) -> None:
    """The fixtures for a real card know nothing of the simulation: to them its driver is this machine's own."""
    chosen = [
        "tests/shim/test_memory_limit.py::test_a_share_is_filled_to_the_last_byte_and_refused_the_next",
        "tests/shim/test_memory_limit.py::test_without_the_shim_the_same_program_fills_the_card",
        "tests/shim/test_ways_in.py::test_nvml_shows_the_shares_memory_and_only_its_processes",
        "tests/shim/test_ways_to_launch.py::test_a_program_gets_the_part_of_the_card_that_its_share_says[70]",
    ]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", *chosen]
    environment = driver.environment(HAMI_DRA_TEST_GPU="real")
    del environment["PYTHONPATH"]
    run = subprocess.run(
        words, env=environment, cwd=installation.REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )
    assert "needs the simulated card" in run.stdout
    assert "3 passed, 1 skipped" in run.stdout, run.stdout + run.stderr
