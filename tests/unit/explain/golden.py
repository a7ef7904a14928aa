"""The explanations that tests/unit/explain/golden holds: `python -m tests.unit.explain.golden` writes them anew."""

from __future__ import annotations

from pathlib import Path

from dra_driver.explain.reasons import Code
from tests.unit.explain.cases import CASES
from tests.unit.explain.situations import words

FOLDER = Path(__file__).with_name("golden")


def written(code: Code) -> str:
    """The whole explanation of the code's case."""
    claim, objects = CASES[code]
    return words(claim, *objects) + "\n"


def main() -> None:
    """Write all."""
    FOLDER.mkdir(exist_ok=True)
    for code in CASES:
        (FOLDER / f"{code}.txt").write_text(written(code))


if __name__ == "__main__":
    main()
