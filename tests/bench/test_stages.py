"""The parts that the bench times by their names are there, and each is met on the way of a claim."""

from __future__ import annotations

from pathlib import Path

from tests.bench.stages import stages


def test_every_part_of_a_call_is_timed(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "cdi").mkdir()
    figures = stages(tmp_path / "node", tmp_path / "cdi", cards=2, claims=4, rounds=2)
    assert [name for name, taken in figures.items() if not taken] == []
    assert len(figures["prepare, without the socket"]) == 2
