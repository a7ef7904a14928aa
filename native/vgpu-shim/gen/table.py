"""The hook table as values: one row per group of symbols, read from hooks/*.toml and checked in itself."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

INTERPOSED = ("alloc", "free", "pool", "map", "context", "module", "query", "launch", "lookup")
NOT_INTERPOSED = ("internal", "pass")


class TableError(Exception):
    """The table contradicts itself or the headers; the message names file, symbol and reason."""


@dataclass(frozen=True)
class Row:
    """Symbols of one prototype, what class they are, which C function serves them, and why."""

    symbols: tuple[str, ...]
    kind: str
    body: str
    why: str
    own_entry: bool = False

    @property
    def interposed(self) -> bool:
        return self.kind in INTERPOSED


@dataclass(frozen=True)
class Table:
    """The rows of one vendor library, and the patterns by which a function is known to need one."""

    path: Path
    library: str
    headers: tuple[str, ...]
    watch: str
    watch_parameters: str
    layouts: tuple[str, ...]
    constants: tuple[str, ...]
    rows: tuple[Row, ...]

    def symbols(self, *, interposed: bool) -> list[tuple[str, Row]]:
        """Symbols with their row: those with an entry point, or those that the shim itself calls."""
        wanted = INTERPOSED if interposed else ("internal",)
        return [(symbol, row) for row in self.rows if row.kind in wanted for symbol in row.symbols]


def read_table(path: Path) -> Table:
    """Parse one table; raises TableError for unknown classes, missing reasons or bodies, and double rows."""
    with path.open("rb") as file:
        document = tomllib.load(file)
    rows = tuple(_row(path, entry) for entry in document["hook"])
    listed = [symbol for row in rows for symbol in row.symbols]
    twice = sorted({symbol for symbol in listed if listed.count(symbol) > 1})
    if twice:
        raise TableError(f"{path.name}: in more than one row: {', '.join(twice)}")
    return Table(
        path=path,
        library=document["library"],
        headers=tuple(document["headers"]),
        watch=document["watch"],
        watch_parameters=document["watch_parameters"],
        layouts=tuple(document["layouts"]),
        constants=tuple(document["constants"]),
        rows=rows,
    )


def _row(path: Path, entry: dict[str, object]) -> Row:
    symbols = entry["symbols"]
    if not isinstance(symbols, list) or not symbols:
        raise TableError(f"{path.name}: a row without symbols: {entry}")
    kind, body, why = (str(entry.get(key, "")) for key in ("class", "body", "why"))
    row = Row(tuple(symbols), kind, body, why, own_entry=bool(entry.get("own_entry", False)))
    if row.kind not in INTERPOSED + NOT_INTERPOSED:
        raise TableError(f"{path.name}: {symbols[0]}: unknown class {row.kind!r}")
    if not row.why:
        raise TableError(f"{path.name}: {symbols[0]}: no reason given")
    if row.interposed != bool(row.body):
        raise TableError(f"{path.name}: {symbols[0]}: a body belongs to an interposed class, and only there")
    return row
