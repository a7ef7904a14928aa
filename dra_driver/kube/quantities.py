"""Kubernetes quantities as whole numbers.

The client library's own parser accepts what the API server refuses and does not write canonical forms; and the
allocator counts in whole numbers rounded up, so that is what a quantity becomes here.
Source of the grammar and of the canonical form: k8s.io/apimachinery/pkg/api/resource/quantity.go (1.37).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_GRAMMAR = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(?:([eE])([+-]?[0-9]{1,3})|([numkMGTPE]|[KMGTPE]i)?)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_LONGEST = 64


def exact(text: str) -> Fraction:
    """Read a quantity exactly. Raises ValueError with the text when it is none."""
    match = _GRAMMAR.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{text[:_LONGEST]!r} is not a quantity (such as 4Gi, 500M or 30)")
    sign, digits, exponent_mark, exponent, suffix = match.groups()
    number = Fraction(digits) * (-1 if sign == "-" else 1)
    if exponent_mark:
        return number * Fraction(10) ** int(exponent)
    if suffix in _BINARY:
        return number * (1 << _BINARY[suffix])
    return number * Fraction(10) ** _DECIMAL[suffix or ""]


def whole(text: str) -> int:
    """Read a quantity as a whole number, rounded up, as the allocator does."""
    return math.ceil(exact(text))


def binary(number: int) -> str:
    """Write bytes in canonical form: the largest binary suffix that leaves a whole number."""
    for suffix, bits in reversed(_BINARY.items()):
        if number and number % (1 << bits) == 0:
            return f"{number >> bits}{suffix}"
    return str(number)
