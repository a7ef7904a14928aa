"""The closed set of reasons for which a claim does not get cards, with their parameters and their words.

Programs read the code and the parameters; the words are made from them here, and nowhere read back. The table in
docs/reasons.md is written from this list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

Parameter = str | int


class Code(StrEnum):
    """Why not."""

    NODE_EXCLUDED = "NodeExcluded"
    IN_USE = "InUse"
    CLASS_SELECTOR = "ClassSelector"
    REQUEST_SELECTOR = "RequestSelector"
    SELECTOR_ERROR = "SelectorError"
    SELECTOR_UNKNOWN = "SelectorUnknown"
    CAPACITY_MISSING = "CapacityMissing"
    CAPACITY_NOT_ALLOWED = "CapacityNotAllowed"
    CAPACITY_TOO_SMALL = "CapacityTooSmall"
    CAPACITY_SHORT = "CapacityShort"
    SHARES_USED_UP = "SharesUsedUp"
    COUNTERS_SHORT = "CountersShort"
    TAINTED = "Tainted"
    ATTRIBUTE_MISSING = "AttributeMissing"
    POOL_INCOMPLETE = "PoolIncomplete"
    POOL_INVALID = "PoolInvalid"
    NO_CARDS = "NoCards"
    CLASS_MISSING = "ClassMissing"
    TOO_FEW_CARDS = "TooFewCards"
    CONSTRAINT_UNMET = "ConstraintUnmet"
    REQUESTS_COMPETE = "RequestsCompete"
    TOO_MANY_DEVICES = "TooManyDevices"
    NOT_REPRESENTABLE = "NotRepresentable"
    REQUEST_NOT_SUPPORTED = "RequestNotSupported"
    SEARCH_TOO_LONG = "SearchTooLong"


@dataclass(frozen=True)
class Meaning:
    """`scope` is card (of one card), pool, or claim; `words` is filled with the parameters."""

    scope: str
    words: str
    remedy: str


MEANINGS: Mapping[Code, Meaning] = {
    Code.NODE_EXCLUDED: Meaning(
        "card",
        "its node does not take the pod: {why}",
        "uncordon or mend the node, or change the pod's tolerations or node selector",
    ),
    Code.IN_USE: Meaning("card", "taken whole by another claim", "wait until that claim ends, or release it"),
    Code.CLASS_SELECTOR: Meaning(
        "card", "class {class} does not select it: {expression}", "use the class of the card's vendor"
    ),
    Code.REQUEST_SELECTOR: Meaning("card", "selector {index} does not select it: {expression}", "change the selector"),
    Code.SELECTOR_ERROR: Meaning(
        "card",
        "selector {index} of {owner} fails on it, which stops the whole claim: {error}",
        'guard the attribute: `"name" in device.attributes["domain"] && …`',
    ),
    Code.SELECTOR_UNKNOWN: Meaning(
        "card",
        "it is unknown whether selector {index} of {owner} selects it: {why}",
        "create the claim, and see",
    ),
    Code.CAPACITY_MISSING: Meaning("card", "it has no {capacity}", "ask only for what the cards publish"),
    Code.CAPACITY_NOT_ALLOWED: Meaning(
        "card",
        "{capacity}: asks for {asked}, becomes {rounded}, which its policy does not allow",
        "ask for an amount that the card's policy allows",
    ),
    Code.CAPACITY_TOO_SMALL: Meaning(
        "card",
        "{capacity}: asks for {asked}, takes {rounded}, the whole card has {total}",
        "ask for less, or use a larger card",
    ),
    Code.CAPACITY_SHORT: Meaning(
        "card",
        "{capacity}: asks for {asked}, takes {rounded}, {free} of {total} free, {short} short",
        "ask for less, or wait until shares end",
    ),
    Code.SHARES_USED_UP: Meaning("card", "all {total} shares are taken", "wait until a share ends, or release one"),
    Code.COUNTERS_SHORT: Meaning(
        "card", "counter {counter}: needs {asked}, {free} free, {short} short", "wait until other partitions end"
    ),
    Code.TAINTED: Meaning("card", "taint {taint} is not tolerated", "mend the card, or tolerate the taint"),
    Code.ATTRIBUTE_MISSING: Meaning(
        "card", "it has no {attribute}, which a constraint compares", "drop the constraint, or use other cards"
    ),
    Code.POOL_INCOMPLETE: Meaning(
        "pool", "its driver is replacing the pool: {present} of {expected} slices are there", "wait a moment"
    ),
    Code.POOL_INVALID: Meaning("pool", "the pool is invalid: {problem}", "mend the driver that publishes it"),
    Code.NO_CARDS: Meaning("claim", "no node publishes a card", "see whether the node plugin runs"),
    Code.CLASS_MISSING: Meaning("claim", "device class {class} does not exist", "name an existing class, or create it"),
    Code.TOO_FEW_CARDS: Meaning(
        "claim",
        "request {request} needs {asked} cards of one node, the best node ({node}) has {free} that fit",
        "ask for fewer cards",
    ),
    Code.CONSTRAINT_UNMET: Meaning(
        "claim", "enough cards fit, but no choice of them meets {constraint}", "drop the constraint, or free more cards"
    ),
    Code.REQUESTS_COMPETE: Meaning(
        "claim", "each request fits alone, but not all of them on one node", "ask for less, or split the claim"
    ),
    Code.TOO_MANY_DEVICES: Meaning("claim", "it asks for more than {limit} devices", "ask for fewer devices"),
    Code.NOT_REPRESENTABLE: Meaning("claim", "{capacity}: {problem}", "ask for a whole amount"),
    Code.REQUEST_NOT_SUPPORTED: Meaning("claim", "request {request}: {problem}", "write the request in another way"),
    Code.SEARCH_TOO_LONG: Meaning("claim", "too many combinations to try", "create the claim, and see"),
}


@dataclass(frozen=True)
class Reason:
    """A code with its parameters. Amounts are texts as Kubernetes writes quantities.

    `shortfall` is what is missing as a part of the whole card, so that cards can be compared; 0 where none is known.
    """

    code: Code
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    shortfall: Fraction = Fraction(0)

    @property
    def words(self) -> str:
        """For people."""
        return MEANINGS[self.code].words.format(**self.parameters)


def page() -> str:
    """The text of docs/reasons.md."""
    rows = [f"| `{code}` | {one.scope} | {_cell(one.words)} | {_cell(one.remedy)} |" for code, one in MEANINGS.items()]
    head = ["<!-- generated by dra_driver/explain/reasons.py (python -m dra_driver.explain.reasons) - do not edit -->"]
    head += ["# Reasons for which a claim waits", ""]
    head += ["Codes and the names in braces are stable: programs may rely on them. The words are not.", ""]
    head += ["A card is refused for the first reason that the scheduler would meet.", ""]
    return "\n".join([*head, "| code | of | words | what helps |", "|---|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
