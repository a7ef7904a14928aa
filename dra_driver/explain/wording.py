"""An explanation in words for people, and as plain values for programs.

`names` says whether other claims may be named: to their owners and administrators, not in a tenant's events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dra_driver.explain.amounts import write
from dra_driver.explain.explanation import Explanation, Placement, Verdict, Verdicted
from dra_driver.explain.objects import Number
from dra_driver.explain.reasons import Reason
from dra_driver.explain.searching import Grant
from dra_driver.explain.state import CardId
from dra_driver.explain.suggesting import Change, Held, Suggestion

_HEADLINE = {
    Verdict.FITS: "fits",
    Verdict.DOES_NOT_FIT: "does not fit",
    Verdict.UNKNOWN: "may or may not fit: it cannot be told outside the scheduler",
    Verdict.ALLOCATED: "has its cards",
}
_CARDS_SHOWN = 12


def text(explanation: Explanation, suggestions: Iterable[Suggestion] = (), *, names: bool = True) -> str:
    """The whole explanation, as lines."""
    return "\n".join(_lines(explanation, tuple(suggestions), names))


def _lines(explanation: Explanation, suggestions: tuple[Suggestion, ...], names: bool) -> Iterator[str]:
    yield f"Claim {explanation.claim} {_HEADLINE[explanation.verdict]}."
    for reason in explanation.reasons:
        yield f"  {reason.code}: {reason.words}"
    for placement in explanation.placements:
        yield from _placed(placement)
    if explanation.verdict in (Verdict.FITS, Verdict.ALLOCATED):
        return
    for pool in explanation.pools:
        yield f"Pool {pool.pool} on {pool.node} gives nothing: {pool.reason.words}"
    for funnel in explanation.funnels:
        yield f"Request {funnel.request}: {_count(funnel.looked_at, 'card')} looked at"
        yield from (f"  {number:>4}  {code}" for code, number in funnel.refused)
        yield f"  {funnel.fitting:>4}  would do"
    yield from _cards(explanation.cards)
    yield from _table(explanation)
    if explanation.nearest is not None:
        near = explanation.nearest
        yield f"Nearest for request {near.request}: {card_name(near.card)} on {near.node}, which lacks all of this:"
        yield from (f"  {reason.words}" for reason in near.reasons)
    if suggestions:
        yield "Any one of these would let it in (tried):"
        yield from (f"  {words(suggestion, names=names)}" for suggestion in suggestions)


def _placed(placement: Placement) -> Iterator[str]:
    where = f" on {placement.node}" if placement.node else ""
    for grant in placement.grants:
        yield f"  {grant.request}: {card_name(grant.card)}{where}, {_taken(grant)}"


def _taken(grant: Grant) -> str:
    return amounts_text(grant.consumed) if grant.consumed is not None else "whole"


def amounts_text(amounts: Mapping[str, Number]) -> str:
    """`cores 30, memory 4Gi`."""
    return ", ".join(f"{name} {write(amount)}" for name, amount in sorted(amounts.items()))


def _cards(cards: tuple[Verdicted, ...]) -> Iterator[str]:
    if cards:
        yield "Card by card, the first reason:"
    for one in cards[:_CARDS_SHOWN]:
        first = one.reasons[0].words if one.reasons else "would do"
        yield f"  {one.node}  {card_name(one.card)}  {one.request}: {first}"
    if len(cards) > _CARDS_SHOWN:
        yield f"  … and {len(cards) - _CARDS_SHOWN} more (-o json shows all)"


def _table(explanation: Explanation) -> Iterator[str]:
    if explanation.conditions:
        yield "Each condition alone would leave:"
    for one in explanation.conditions:
        unknown = f", {one.unknown} unknown" if one.unknown else ""
        yield f"  {one.matches:>4} of {one.of}{unknown}  {one.request}: {one.words}"


def words(suggestion: Suggestion, *, names: bool) -> str:
    """One suggestion in words."""
    card = card_name(suggestion.card) if suggestion.card else ""
    values = suggestion.parameters
    if suggestion.change is Change.SHRINK:
        asked = ", ".join(f"{name} {amount}" for name, amount in sorted(values.items()))
        return f"ask for {asked} in request {suggestion.request}: it then fits {card} on {suggestion.node}"
    if suggestion.change is Change.RELEASE:
        return f"release {_held(suggestion.releases, names)} on {card} of {suggestion.node}"
    if suggestion.change is Change.TOLERATE:
        return f"tolerate the taint {values['taint']} in request {suggestion.request}: {card} on {suggestion.node}"
    if suggestion.change is Change.FEWER_CARDS:
        return f"ask for {values['count']} in place of the count of request {suggestion.request}: {suggestion.node}"
    if suggestion.change is Change.DROP_SELECTOR:
        return f"drop the selector of request {suggestion.request}: {values['expression']}"
    return f"drop the constraint {values['constraint']}"


def _held(held: tuple[Held, ...], names: bool) -> str:
    if not names:
        return _count(len(held), "other share") if held[0].amounts else "the claim that has the whole card"
    return " and ".join(f"{one.claim} ({_amounts(one)})" for one in held)


def _amounts(held: Held) -> str:
    return ", ".join(f"{name} {amount}" for name, amount in sorted(held.amounts.items())) or "whole card"


def card_name(card: CardId) -> str:
    """`pool/device`."""
    return f"{card[1]}/{card[2]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def wire(explanation: Explanation, suggestions: Iterable[Suggestion] = (), *, names: bool = True) -> dict[str, Any]:
    """The whole explanation as plain values; codes and parameters are those of docs/reasons.md."""
    return {
        "claim": explanation.claim,
        "verdict": str(explanation.verdict),
        "reasons": [_reason(reason) for reason in explanation.reasons],
        "placements": [_placement(placement) for placement in explanation.placements],
        "funnel": [
            {
                "request": one.request,
                "lookedAt": one.looked_at,
                "refused": {str(code): number for code, number in one.refused},
                "fitting": one.fitting,
            }
            for one in explanation.funnels
        ],
        "cards": [_verdicted(one) for one in explanation.cards],
        "pools": [{"node": one.node, "pool": one.pool, "reason": _reason(one.reason)} for one in explanation.pools],
        "conditions": [
            {
                "request": one.request,
                "kind": one.kind,
                "condition": one.words,
                "matches": one.matches,
                "unknown": one.unknown,
                "of": one.of,
            }
            for one in explanation.conditions
        ],
        "nearest": _verdicted(explanation.nearest) if explanation.nearest else None,
        "suggestions": [_suggestion(one, names) for one in suggestions],
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {"code": str(reason.code), "parameters": dict(reason.parameters), "words": reason.words}


def _verdicted(one: Verdicted) -> dict[str, Any]:
    return {
        "request": one.request,
        "node": one.node,
        **_card(one.card),
        "reasons": [_reason(reason) for reason in one.reasons],
    }


def _card(card: CardId) -> dict[str, str]:
    return dict(zip(("driver", "pool", "device"), card, strict=True))


def _placement(placement: Placement) -> dict[str, Any]:
    grants = [
        {
            "request": grant.request,
            **_card(grant.card),
            "consumed": None if grant.consumed is None else {n: write(a) for n, a in sorted(grant.consumed.items())},
        }
        for grant in placement.grants
    ]
    return {"node": placement.node, "grants": grants}


def _suggestion(one: Suggestion, names: bool) -> dict[str, Any]:
    releases: list[dict[str, Any]] = [
        {**({"claim": held.claim} if names else {}), "amounts": dict(held.amounts)} for held in one.releases
    ]
    return {
        "change": str(one.change),
        "request": one.request,
        "node": one.node,
        **(_card(one.card) if one.card else {}),
        "parameters": dict(one.parameters),
        "releases": releases,
        "words": words(one, names=names),
    }
