"""Tables and bars as kubectl's users expect them: columns by spaces, capital heads, nothing when there is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from dra_driver.explain.objects import Number

_BAR = 10


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines with aligned columns; empty cells are shown as `-`."""
    cells = [list(head), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def bar(used: Number, total: Number) -> str:
    """`[####......]`; a little is never shown as nothing, and not quite all is never shown as all."""
    part = Fraction(used) / Fraction(total) if total else Fraction(0)
    filled = round(part * _BAR)
    if 0 < part < 1:
        filled = min(max(filled, 1), _BAR - 1)
    filled = min(filled, _BAR)
    return f"[{'#' * filled}{'.' * (_BAR - filled)}]"
