"""Which recorded claims hold part of which card, kept along with the records: pure.

A node has hundreds of claims and a claim asks for one card or a few, so looking through all of them for each would be
most of the work of a Prepare.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim

Holders = Mapping[str, tuple[PreparedClaim, ...]]


def holders_of(claims: Iterable[PreparedClaim]) -> Holders:
    """Sort claims by the UUIDs of their cards; one that holds several cards is with each."""
    found: dict[str, list[PreparedClaim]] = {}
    for claim in claims:
        for card in _cards(claim):
            found.setdefault(card, []).append(claim)
    return {card: tuple(listed) for card, listed in found.items()}


def holders_after(holders: Holders, before: PreparedClaim | None, after: PreparedClaim | None) -> Holders:
    """Tell the holders when one claim's record is another, or was none, or is none any more."""
    changed = {card: holders.get(card, ()) for card in (*_cards(before), *_cards(after))}
    for card, listed in changed.items():
        kept = tuple(claim for claim in listed if before is None or claim.uid != before.uid)
        changed[card] = (*kept, after) if after is not None and card in _cards(after) else kept
    return {**holders, **changed}


def on_cards(holders: Holders, cards: Collection[str]) -> tuple[PreparedClaim, ...]:
    """List the claims that hold part of any of these cards, each once."""
    return tuple({claim.uid: claim for card in cards for claim in holders.get(card, ())}.values())


def _cards(claim: PreparedClaim | None) -> frozenset[str]:
    return frozenset(share.device_uuid for share in claim.shares) if claim is not None else frozenset()
