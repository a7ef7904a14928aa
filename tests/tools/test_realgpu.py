"""`make test-gpu` must never pass because there was nothing to test on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.realgpu import NoRealCardError, count_cards


def test_a_machine_without_the_kernel_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRealCardError, match="kernel driver is not loaded"):
        count_cards(kernel_driver=tmp_path / "version")


def test_a_machine_without_the_library_is_refused(tmp_path: Path) -> None:
    loaded = tmp_path / "version"
    loaded.touch()
    with pytest.raises(NoRealCardError, match="cannot be loaded"):
        count_cards(kernel_driver=loaded, library=str(tmp_path / "libcuda.so.1"))
