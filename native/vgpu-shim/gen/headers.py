"""What the vendor's headers say, as values.

The headers are the only authority on which functions exist and how they are called, so the table is
checked against them rather than against memory. Only the C preprocessor runs here; the few declaration
forms that these headers use are read with patterns.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PER_THREAD = re.compile(r"_pt[sd][sz]$")
_VERSION = re.compile(r"_v\d+$")


@dataclass(frozen=True)
class Parameter:
    """One parameter: `declaration` is how it is written in C, `name` its name."""

    declaration: str
    name: str


@dataclass(frozen=True)
class Prototype:
    """One exported function."""

    name: str
    returns: str
    parameters: tuple[Parameter, ...]

    @property
    def signature(self) -> tuple[str, ...]:
        """The types alone, so that two prototypes compare equal whatever their parameters are called."""
        return (self.returns, *(re.sub(rf"\b{p.name}\b", "", p.declaration).strip() for p in self.parameters))


@dataclass(frozen=True)
class Headers:
    """The declarations of one library in one release of its headers.

    functions: by exported symbol. definitions: C text of a type by its typedef name.
    constants: enumerators. versions: the releases (CUDA_VERSION, such as 3020) in which a base name, with
    its per-thread suffix, got a new form: cuMemAlloc -> (2000, 3020).
    """

    functions: dict[str, Prototype]
    definitions: dict[str, str]
    constants: dict[str, int]
    versions: dict[str, tuple[int, ...]]


def base_name(symbol: str) -> str:
    """The name under which cuGetProcAddress knows an exported symbol: cuLaunchKernel_ptsz -> cuLaunchKernel."""
    return _VERSION.sub("", _PER_THREAD.sub("", symbol))


def family(symbol: str) -> str:
    """The base name with its per-thread suffix: one family of versions."""
    suffix = _PER_THREAD.search(symbol)
    return base_name(symbol) + (suffix.group() if suffix else "")


def read_headers(compiler: list[str], include: Path, names: tuple[str, ...]) -> Headers:
    """Preprocess `names` from `include` and parse them; raises CalledProcessError when they do not."""
    lines = "".join(f"#include <{name}>\n" for name in names)
    flags = ["-D__CUDA_API_VERSION_INTERNAL", "-DNVML_NO_UNVERSIONED_FUNC_DEFS", f"-I{include}"]
    command = [*compiler, "-E", "-P", *flags, "-x", "c", "-"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    text = re.sub(r"__attribute__\s*\(\(.*?\)\)", " ", done.stdout)
    definitions = {**_typedefs(text), **_structures(text)}
    return Headers(_functions(text), definitions, _constants(text), _versions(text))


def _functions(text: str) -> dict[str, Prototype]:
    found = {}
    for match in re.finditer(r"\b(CUresult|nvmlReturn_t)\s+((?:cu|nvml)[A-Z]\w*)\s*\(([^()]*)\)\s*;", text):
        returns, name, inside = match.groups()
        found[name] = Prototype(name, returns, _parameters(inside))
    return found


def _parameters(inside: str) -> tuple[Parameter, ...]:
    listed = [_tidy(part) for part in inside.split(",")]
    return tuple(Parameter(part, _last_word(part)) for part in listed if part not in ("", "void"))


def _last_word(declaration: str) -> str:
    found = re.findall(r"\w+", declaration)
    return str(found[-1])


def _tidy(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\s*\*\s*", " *", text)).replace("* *", "**").strip()


def _typedefs(text: str) -> dict[str, str]:
    found = {}
    for match in re.finditer(r"\btypedef\s+([^;{}()]+?)(\**\s*)(\w+)\s*;", text):
        target, stars, name = match.groups()
        found[name] = f"typedef {_tidy(target)} {stars.strip()}{name};"
    return found


def _structures(text: str) -> dict[str, str]:
    found = {}
    for match in re.finditer(r"\btypedef\s+(struct|union|enum)\b\s*(\w*)\s*\{", text):
        kind, tag = match.groups()
        body, tail = _braces(text, match.end())
        first, *others = [part.strip() for part in tail.split(",")]
        found[first] = _definition(kind, tag, body, first)
        found |= {name: f"typedef {first} {name};" for name in others}
    return found


def _braces(text: str, start: int) -> tuple[str, str]:
    depth, at = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return text[start : at - 1], text[at : text.index(";", at)]


def _definition(kind: str, tag: str, body: str, name: str) -> str:
    if kind == "enum":
        return f"typedef unsigned int {name};"
    members = "\n".join("    " + _tidy(line) for line in body.splitlines() if line.strip())
    return f"typedef {kind} {tag or name} {{\n{members}\n}} {name};"


def _constants(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for match in re.finditer(r"\benum\b\s*\w*\s*\{([^}]*)\}", text):
        following = 0
        for entry in (part.strip() for part in match.group(1).split(",")):
            if not entry:
                continue
            name, _, value = (part.strip() for part in entry.partition("="))
            following = _value(value, found) if value else following
            found[name] = following
            following += 1
    return found


def _value(expression: str, known: dict[str, int]) -> int:
    plain = re.sub(r"\((?:unsigned )?int\)|(?<=\d)[uUlL]+\b", "", expression)
    named = re.sub(r"[A-Za-z_]\w*", lambda word: str(known.get(word.group(), word.group())), _hex(plain))
    if not re.fullmatch(r"[\d\s()+\-*|&<>~]+", named):
        raise ValueError(f"enumerator value {expression!r} is not understood")
    return int(eval(" ".join(named.split()), {"__builtins__": {}}))  # digits and operators only, see above


def _hex(expression: str) -> str:
    return re.sub(r"0[xX]([0-9a-fA-F]+)[uUlL]*", lambda number: str(int(number.group(1), 16)), expression)


def _versions(text: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for name, version, suffix in re.findall(r"\*\s*PFN_(cu\w+?)_v(\d+)(_pt[sd][sz])?\)", text):
        found.setdefault(name + suffix, set()).add(int(version))
    return {name: tuple(sorted(versions)) for name, versions in found.items()}
