"""Which parts of a card a selector reads, so that cards equal in those are judged once.

Of the subset of CEL that is judged at all, every attribute is named by a word or by a text in the expression itself,
unless a name is computed. Where one might be, all of the card counts as read.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from dra_driver.explain.pools import Card

_MAPS = ("attributes", "capacity")


def names_read(tokens: Sequence[str]) -> frozenset[str] | None:
    """The names that may be those of attributes or capacities; None where a name may be computed."""
    padded = ("", *tokens, "", "", "", "")
    for index, token in enumerate(padded[1 : len(tokens) + 1], 1):
        before, following = padded[index - 1], padded[index + 1]
        if token == "+" or (_is_string(token) and text_of(token) is None):
            return None
        if token == "[" and _opens_index(before) and not _constant(padded[index + 1 : index + 3]):
            return None
        if token == "in" and following != "[" and text_of(before) is None:
            return None
        if token in _MAPS and before == "." and not _one_entry(padded, index):
            return None
    texts = (text_of(token) for token in tokens)
    return frozenset(text if text is not None else token for token, text in zip(tokens, texts, strict=True))


def seen(card: Card, names: frozenset[str] | None) -> tuple[Hashable, ...]:
    """What a reader of these names sees of the card."""
    device = card.device
    return (
        tuple(
            sorted(
                (name, one.value)
                for name, one in device.attributes.items()
                if names is None or name.rpartition("/")[2] in names
            )
        ),
        tuple(
            sorted(
                (name, one.value)
                for name, one in device.capacity.items()
                if names is None or name.rpartition("/")[2] in names
            )
        ),
    )


def text_of(token: str) -> str | None:
    """The text of a plain string token."""
    return token[1:-1] if token[:1] in ("'", '"') and "\\" not in token else None


def _is_string(token: str) -> bool:
    return token[:1] in ("'", '"') or (token[:1] == "r" and token[1:2] in ("'", '"'))


def _opens_index(before: str) -> bool:
    """Whether a bracket after this token chooses an entry, and does not begin a list."""
    return before in ("]", ")") or (before != "in" and before[:1].isalpha())


def _constant(tokens: Sequence[str]) -> bool:
    return tokens[1] == "]" and (text_of(tokens[0]) is not None or tokens[0].isdigit())


def _one_entry(tokens: Sequence[str], index: int) -> bool:
    """Whether `attributes["domain"]` is followed by the name of an entry, or asked for one by `in`."""
    opening, _, closing, following = tokens[index + 1 : index + 5]
    if (opening, closing) != ("[", "]"):
        return False
    return following in (".", "[") or tokens[max(index - 3, 0)] == "in"
