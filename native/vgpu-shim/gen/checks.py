"""The table against the headers: what the compiler cannot see.

A newer header that brings a function which allocates or launches must fail here, before a tenant finds
it; so must a row whose symbol or prototype no header knows.
"""

from __future__ import annotations

import re

from headers import Headers, Prototype, family
from table import Table


def disagreements(table: Table, releases: list[Headers]) -> list[str]:
    """Every way in which `table` and the headers part, as sentences; empty when they agree."""
    return [
        *_unknown(table, releases),
        *_changed(table, releases),
        *_mixed(table, releases),
        *_unlisted(table, releases),
        *_versions(table, releases),
    ]


def _named(table: Table) -> list[str]:
    return [symbol for row in table.rows for symbol in row.symbols]


def _unknown(table: Table, releases: list[Headers]) -> list[str]:
    lost = [name for name in _named(table) if not any(name in release.functions for release in releases)]
    return [f"{table.path.name}: no header declares {name}" for name in lost]


def _changed(table: Table, releases: list[Headers]) -> list[str]:
    said = []
    for name in _named(table):
        forms = {r.functions[name].signature for r in releases if name in r.functions}
        if len(forms) > 1:
            said.append(f"{table.path.name}: {name} has another prototype in another release: {sorted(forms)}")
    return said


def _mixed(table: Table, releases: list[Headers]) -> list[str]:
    said = []
    for row in (row for row in table.rows if row.interposed):
        forms = {r.functions[name].signature for r in releases for name in row.symbols if name in r.functions}
        if len(forms) > 1:
            said.append(f"{table.path.name}: {row.symbols[0]}: one row, several prototypes: {sorted(forms)}")
    return said


def _unlisted(table: Table, releases: list[Headers]) -> list[str]:
    known = set(_named(table))
    exported = {name: release.functions[name] for release in releases for name in release.functions}
    reasons = {name: _reason(table, prototype) for name, prototype in sorted(exported.items()) if name not in known}
    return [
        f"{table.path.name}: {name} may allocate or launch, by {reason}, and has no row"
        for name, reason in reasons.items()
        if reason
    ]


def _reason(table: Table, prototype: Prototype) -> str:
    """What makes a function one that needs a row; empty when nothing does."""
    if re.search(table.watch, prototype.name):
        return "its name"
    watched = [p.name for p in prototype.parameters if re.search(table.watch_parameters, p.declaration)]
    return f"its parameter {watched[0]}" if watched else ""


def _versions(table: Table, releases: list[Headers]) -> list[str]:
    said = []
    for release in releases:
        if not release.versions:
            continue
        for name in sorted({family(symbol) for symbol, _ in table.symbols(interposed=True)}):
            forms = sum(family(symbol) == name for symbol in release.functions)
            if forms and forms != len(release.versions.get(name, ())):
                said.append(f"{table.path.name}: {name}: {forms} symbols, but versions {release.versions.get(name)}")
    return said
