"""The cards that a pod's annotations choose, as CEL selectors.

HAMi compares UUIDs as they are, and types as parts of the card's model without regard to case. The selectors use only
what `kubectl vgpu explain` can judge as well: no functions of the strings library, only patterns.
Source: github.com/Project-HAMi/HAMi 4707fb0, CheckUUID and CheckType in pkg/device/devices.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from dra_driver.errors import ObjectRejected
from dra_driver.migration.conventions import Convention

_TYPE = re.compile(r"[A-Za-z0-9 .,_:/()+-]{1,64}")
_UUID = re.compile(r"[A-Za-z0-9._:/-]{1,64}")


def selectors(convention: Convention, annotations: Mapping[str, str], *, driver: str, subject: str) -> tuple[str, ...]:
    """Write the selectors of a convention's cards, one condition each. Raises ObjectRejected."""
    attributes = f'device.attributes["{driver}"]'
    return (
        *((f"{attributes}.model in {json.dumps(convention.models)}",) if convention.models else ()),
        *_uuids(convention, annotations, f"{attributes}.uuid", subject),
        *_types(convention, annotations, f"{attributes}.model", subject),
    )


def _uuids(convention: Convention, annotations: Mapping[str, str], uuid: str, subject: str) -> Iterator[str]:
    for names, negation in ((convention.choice.use_uuid, ""), (convention.choice.avoid_uuid, "!")):
        for name in names:
            if listed := _listed(annotations, name, _UUID, subject):
                condition = f"{uuid} in {json.dumps(listed)}"
                yield f"!({condition})" if negation else condition


def _types(convention: Convention, annotations: Mapping[str, str], model: str, subject: str) -> Iterator[str]:
    for names, avoided in ((convention.choice.use_type, False), (convention.choice.avoid_type, True)):
        for name in names:
            listed = _listed(annotations, name, _TYPE, subject)
            if not listed:
                continue
            parts = [_without_prefix(one, convention.type_prefix) for one in listed]
            if not all(parts):
                # Every card has the prefix: the annotation allows all, or none.
                if avoided:
                    raise _rejected(subject, name, f"{annotations[name]!r} leaves no card")
                continue
            condition = f'{model}.matches("{"|".join(map(_pattern, parts))}")'
            yield f"!{condition}" if avoided else condition


def _listed(annotations: Mapping[str, str], name: str, grammar: re.Pattern[str], subject: str) -> list[str]:
    """The entries of a list by commas; an empty list is no condition. Raises ObjectRejected."""
    entries = [entry for part in str(annotations.get(name, "")).split(",") if (entry := part.strip())]
    for entry in entries:
        if not grammar.fullmatch(entry):
            raise _rejected(subject, name, f"{entry[:64]!r} cannot be in it")
    return entries


def _without_prefix(entry: str, prefix: str) -> str:
    """HAMi writes the vendor before a model that does not begin with it; the attribute holds the model alone."""
    if prefix and entry.lower() in prefix.lower():
        return ""
    return entry[len(prefix) :] if prefix and entry.lower().startswith(prefix.lower()) else entry


def _pattern(part: str) -> str:
    """A pattern for a text without regard to case."""
    return "".join(_letter(letter) for letter in part)


def _letter(letter: str) -> str:
    if letter.isalpha():
        return f"[{letter.upper()}{letter.lower()}]"
    return letter if letter.isdigit() or letter in " -_:/," else f"[{letter}]"


def _rejected(subject: str, annotation: str, problem: str) -> ObjectRejected:
    return ObjectRejected(subject, f"metadata.annotations[{annotation}]", problem)
