"""Every probe runs on the bare driver as a control and under the shim: what differs is declared, with its reason."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shim.tenants import Container
from tests.simgpu import installation

GIB = 1 << 30
DECLARED = tomllib.loads((Path(__file__).parent / "differences.toml").read_text())
SOURCES = Path(__file__).resolve().parents[2] / "native" / "vgpu-shim" / "tests"


@dataclass(frozen=True)
class Pair:
    """Answers of the driver and of the shim to one question."""

    native: str
    shim: str


def declared(probe: str, card_bytes: int) -> dict[str, Pair]:
    """The differences that a probe may show on a card of so much memory, by question."""
    rows = [row for row in DECLARED["difference"] if row["probe"] == probe]
    assert all(row["why"] for row in rows)
    native = {row["native"]: row["native"].format(card_bytes=card_bytes) for row in rows}
    return {question: Pair(native[row["native"]], row["shim"]) for row in rows for question in row["questions"]}


def answers(container: Container, probe: str, *, native: bool) -> dict[str, str]:
    """What a probe says: question -> answer. A question may be asked once."""
    pairs = [line.rpartition(" ") for line in installation.finish(container.probe(probe, native=native)).splitlines()]
    assert len({question for question, _, _ in pairs}) == len(pairs)
    return {question: answer for question, _, answer in pairs}


@pytest.mark.parametrize("probe", DECLARED["compared"])
def test_the_shim_answers_as_the_driver_but_for_what_is_declared(container: Container, probe: str) -> None:
    container.share("one", memory=4 * GIB)
    native, shim = (answers(container, probe, native=flag) for flag in (True, False))
    assert list(native) == list(shim)
    differing = {question: Pair(native[question], shim[question]) for question in native}
    assert {question: pair for question, pair in differing.items() if pair.native != pair.shim} == declared(
        probe, container.card_bytes
    )


def test_every_probe_is_compared_or_says_why_not() -> None:
    named = [*DECLARED["compared"], *DECLARED["not_compared"]]
    assert sorted(named) == sorted(path.stem for path in SOURCES.glob("*.c"))
    assert all(DECLARED["not_compared"].values())
