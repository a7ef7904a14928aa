"""The vendor's types, as far as the hooked functions need them, so that a build needs no vendor header."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headers import Headers, Prototype
from table import Table, TableError

_STANDARD = ("size_t", "uint64_t", "uint32_t", "int32_t")  # stddef.h and stdint.h have them


def types_and_constants(table: Table, newest: Headers, prototypes: Iterable[Prototype]) -> list[str]:
    """C lines that define every type the prototypes and layouts name, each behind what it needs."""
    roots = [word for prototype in prototypes for word in _words(prototype)]
    lines: dict[str, str] = {}
    visible = _through_aliases(table.layouts, newest)
    for root in (*roots, *table.layouts):
        _define(root, newest, visible, lines)
    return [*lines.values(), "", *(_constant(name, newest) for name in table.constants)]


def _words(prototype: Prototype) -> list[str]:
    return [word for text in prototype.signature for word in re.findall(r"[A-Za-z_]\w*", text)]


def _through_aliases(layouts: tuple[str, ...], newest: Headers) -> set[str]:
    visible: set[str] = set()
    for name in layouts:
        following: str | None = name
        while following and following not in visible:
            visible.add(following)
            alias = re.fullmatch(r"typedef (\w+) \w+;", newest.definitions.get(following, ""))
            following = alias.group(1) if alias else None
    return visible


def _define(name: str, newest: Headers, visible: set[str], lines: dict[str, str]) -> None:
    if name in lines or name in _STANDARD or name not in newest.definitions:
        return
    text = newest.definitions[name]
    structure = re.match(r"typedef (struct|union) (\w+) \{", text)
    if structure and name not in visible:
        lines[name] = f"typedef {structure.group(1)} {structure.group(2)} {name};"
        return
    for word in re.findall(r"[A-Za-z_]\w*", text):
        if word != name:
            # A structure that a visible one holds by value must be visible too.
            if structure and re.search(rf"^\s*{word} \w+(\[|;)", text, re.MULTILINE):
                visible.add(word)
            _define(word, newest, visible, lines)
    lines[name] = text


def _constant(name: str, newest: Headers) -> str:
    if name not in newest.constants:
        raise TableError(f"no header defines the constant {name}")
    return f"#define {name} {newest.constants[name]}"
