"""Judges CEL selectors on devices, and says "unknown" where the judge speaks another dialect than Kubernetes.

The library is a CEL of its own: a word of Kubernetes' dialect that it lacks, or may read differently, must never turn
into a yes or a no. So an expression is cut into tokens first, and only what is known to mean the same is evaluated.
Quantities and versions become maps of exact parts, and the functions on them are ours.
Source: k8s.io/dynamic-resource-allocation/cel/compile.go, k8s.io/apiserver/pkg/cel/library (1.37).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from dra_driver.explain.objects import Attribute
from dra_driver.explain.pools import Card
from dra_driver.explain.reading import names_read, seen, text_of
from dra_driver.kube.quantities import exact

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>r?"(?:[^"\\\n]|\\["'\\nt])*"|r?'(?:[^'\\\n]|\\["'\\nt])*')"""
    r"""|(?P<number>[0-9]+)(?![0-9A-Za-z_.])"""
    r"""|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"""
    r"""|(?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]]))"""
)
# Expressions a device: tenants write selectors, and a long-lived process must not keep all of them.
_KEPT = 64
_ANSWERS_KEPT = 20_000
_COMPARISONS = frozenset({"compareTo", "isGreaterThan", "isLessThan"})
_FUNCTIONS = frozenset({"startsWith", "endsWith", "contains", "matches", "has", "quantity", "semver"})
_KNOWN = _COMPARISONS | _FUNCTIONS
# Escapes and classes in which the two languages of patterns differ are left out.
_PLAIN_PATTERN = re.compile(r"(?!.*(?:--|\[\[|\(\?))[A-Za-z0-9 .*+^$|()\[\]\-_:/,]*")
_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


class Answer(Enum):
    """What a selector says of a card. An error refuses the whole claim, as the scheduler does."""

    YES = "yes"
    NO = "no"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Judgement:
    """An answer, and the words of an error or of why it is unknown."""

    answer: Answer
    why: str = ""


_ANSWERS: dict[tuple[Any, ...], Judgement] = {}


@dataclass(frozen=True)
class _Compiled:
    program: Any
    tokens: tuple[str, ...]
    domains: frozenset[str]
    names: frozenset[str] | None


def judge(expression: str, card: Card) -> Judgement:
    """Evaluate one expression for one card; the answer is kept with the device, as it cannot change."""
    kept = card.device.judged
    key = (card.driver, expression)
    if key not in kept:
        if len(kept) >= _KEPT:
            kept.clear()
        kept[key] = _judge(expression, card)
    found: Judgement = kept[key]
    return found


def _judge(expression: str, card: Card) -> Judgement:
    compiled = _compile(expression)
    if isinstance(compiled, str):
        return Judgement(Answer.UNKNOWN, compiled)
    # Cards that differ only in what the expression does not read (their UUIDs, mostly) have one answer.
    key = (expression, card.driver, card.shared, *seen(card, compiled.names))
    if key not in _ANSWERS:
        if len(_ANSWERS) >= _ANSWERS_KEPT:
            _ANSWERS.clear()
        why = _untyped_version(compiled.tokens, card)
        _ANSWERS[key] = Judgement(Answer.UNKNOWN, why) if why else _evaluate(compiled, _device(card, compiled.domains))
    return _ANSWERS[key]


@cache
def _library() -> ModuleType:
    """The library loads a command line of its own: a quarter of a second, for those who have something to judge."""
    import cel

    # It logs what it also raises, and that is told once.
    logging.getLogger("cel").setLevel(logging.CRITICAL)
    return cel


@lru_cache(maxsize=4096)
def _compile(expression: str) -> _Compiled | str:
    """Compile, or say why the expression cannot be judged."""
    tokens = _tokens(expression)
    if tokens is None:
        return "it uses syntax that cannot be judged outside Kubernetes"
    if why := _beyond(tokens):
        return why
    try:
        program = _library().compile(expression)
    except (ValueError, RuntimeError) as error:
        return f"it cannot be read: {str(error).splitlines()[0]}"
    return _Compiled(program, tokens, _domains(tokens), names_read(tokens))


def _tokens(expression: str) -> tuple[str, ...] | None:
    found, position, text = [], 0, expression.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        found.append(match.group().strip())
        position = match.end()
    return tuple(found)


def _beyond(tokens: tuple[str, ...]) -> str:
    for index, (token, following) in enumerate(zip(tokens, (*tokens[1:], ""), strict=True)):
        before = tokens[index - 1] if index else ""
        if token == "?" and before in (".", "["):
            return "it uses optional fields"
        if _is_word(token) and following == "(" and token not in _KNOWN and token != "in":
            return f"it calls {token}()"
        if _is_word(token) and before != "." and following != "(" and token not in ("device", "true", "false", "in"):
            return f"it names {token}"
        if token == "matches" and not _plain_pattern(tokens[index + 2 : index + 4]):
            return "its pattern may mean something else here"
        if token == "semver" and tokens[index + 3 : index + 4] != (")",):
            return "it normalises versions"
        if token == "in" and _whole_map(tokens[index + 1 : index + 5]):
            return "it asks for the presence of a domain"
    return ""


def _whole_map(tokens: tuple[str, ...]) -> bool:
    """Whether these name all attributes or capacities, not those of one domain."""
    maps = (("device", ".", "attributes"), ("device", ".", "capacity"))
    return tokens[:3] in maps and tokens[3:] not in (("[",), (".",))


def _plain_pattern(call: tuple[str, ...]) -> bool:
    return len(call) == 2 and call[1] == ")" and call[0][:1] in "\"'" and bool(_PLAIN_PATTERN.fullmatch(call[0][1:-1]))


def _is_word(token: str) -> bool:
    return token[:1].isalpha() and not (token[:1] == "r" and token[1:2] in ("'", '"'))


def _domains(tokens: tuple[str, ...]) -> frozenset[str]:
    """The domains that are indexed: where a device has none of such a domain, Kubernetes has an empty map."""
    after = zip(tokens, tokens[1:], tokens[2:], strict=False)
    found = (text_of(third) for first, second, third in after if first in ("attributes", "capacity") and second == "[")
    return frozenset(domain for domain in found if domain is not None)


def _untyped_version(tokens: tuple[str, ...], card: Card) -> str:
    """A version is no text: comparing it to one is an error or a no, by the side on which it stands."""
    versions = {
        name.rpartition("/")[2]
        for name, attribute in card.device.attributes.items()
        if attribute.version is not None or attribute.versions is not None
    }
    for index, token in enumerate(tokens):
        named = token if _is_word(token) else text_of(token)
        if named not in versions or tokens[index - 1 : index] not in ((".",), ("[",)):
            continue
        rest = tokens[index + 1 :] if tokens[index - 1] == "." else tokens[index + 2 :]
        called = rest[:1] == (".",) and rest[1:2] and rest[1] in _COMPARISONS
        if not called and not (rest[:1] in (("==",), ("!=",)) and rest[1:2] == ("semver",)):
            return f"it uses the version {named} as something else"
    return ""


def _evaluate(compiled: _Compiled, device: Mapping[str, Any]) -> Judgement:
    context = _library().Context(variables={"device": device})
    for name, function in _LIBRARY.items():
        context.add_function(name, function)
    try:
        answer = compiled.program.execute(context)
    except KeyError as error:
        return Judgement(Answer.ERROR, f"no such key: {error.args[0] if error.args else error}")
    except (TypeError, ArithmeticError) as error:
        return Judgement(Answer.ERROR, str(error).splitlines()[0])
    except (ValueError, RuntimeError) as error:
        return Judgement(Answer.UNKNOWN, str(error).splitlines()[0])
    if not isinstance(answer, bool):
        return Judgement(Answer.ERROR, "its result is neither true nor false")
    return Judgement(Answer.YES if answer else Answer.NO)


def _device(card: Card, domains: frozenset[str]) -> Mapping[str, Any]:
    attributes: dict[str, dict[str, Any]] = {domain: {} for domain in domains}
    for name, attribute in card.device.attributes.items():
        domain, identifier = _split(name, card.driver)
        attributes.setdefault(domain, {})[identifier] = _plain(attribute)
    capacity: dict[str, dict[str, Any]] = {domain: {} for domain in domains}
    for name, amount in card.device.capacity.items():
        domain, identifier = _split(name, card.driver)
        capacity.setdefault(domain, {})[identifier] = _quantity_of(Fraction(amount.value))
    return {
        "driver": card.driver,
        "allowMultipleAllocations": card.shared,
        "attributes": attributes,
        "capacity": capacity,
    }


def _split(name: str, driver: str) -> tuple[str, str]:
    domain, slash, identifier = name.partition("/")
    return (domain, identifier) if slash else (driver, name)


def _plain(attribute: Attribute) -> Any:
    if attribute.version is not None:
        return _semver(attribute.version)
    if attribute.versions is not None:
        return [_semver(version) for version in attribute.versions]
    found = attribute.value
    return list(found[1]) if found and isinstance(found[1], tuple) else found[1] if found else None


def _quantity_of(amount: Fraction) -> dict[str, str]:
    return {"quantity": f"{amount.numerator}/{amount.denominator}"}


def _quantity(text: str) -> dict[str, str]:
    try:
        return _quantity_of(exact(text))
    except ValueError as error:
        raise TypeError(str(error)) from error


def _semver(text: str) -> dict[str, str]:
    if not _SEMVER.fullmatch(text):
        raise TypeError(f"{text!r} is not a semantic version")
    return {"semver": text}


def _greater(left: Any, right: Any) -> bool:
    return _compare(left, right) > 0


def _less(left: Any, right: Any) -> bool:
    return _compare(left, right) < 0


def _compare(left: Any, right: Any) -> int:
    if not isinstance(left, dict) or not isinstance(right, dict) or left.keys() != right.keys():
        raise TypeError("no such overload")
    one, other = _ordered(left), _ordered(right)
    return int(one > other) - int(one < other)


def _ordered(value: Mapping[str, str]) -> Any:
    if "quantity" in value:
        return Fraction(value["quantity"])
    match = _SEMVER.fullmatch(value["semver"])
    assert match is not None
    before = match.group(4)
    # A pre-release comes before its release; its numeric parts before its words (semver.org, 11).
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in before.split(".")] if before else []
    return tuple(int(match.group(number)) for number in (1, 2, 3)), before is None, parts


_LIBRARY: Mapping[str, Callable[..., Any]] = {
    "quantity": _quantity,
    "semver": _semver,
    "compareTo": _compare,
    "isGreaterThan": _greater,
    "isLessThan": _less,
}
