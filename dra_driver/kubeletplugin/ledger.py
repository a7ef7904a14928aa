"""What is promised on each card, and whether one more share fits: pure.

The scheduler counts too; but a node that enforces limits does not give out more than it has because somebody
else's count was wrong, stale, or made with a feature switched off.

Promised is what the checkpoint records, and what the API shows as allocated here though it was not prepared yet. Of
two allocations that do not fit together the earlier one is kept: else each would keep the other from its card.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence, Set
from typing import NamedTuple, Protocol

from dra_driver.errors import OverCommitted
from dra_driver.kube.claims import Claim, ClaimRef
from dra_driver.kubeletplugin.checkpoint import PreparedClaim, PreparedShare
from dra_driver.kubeletplugin.plan import Plan, PlannedShare, is_slot
from drivers.model import Device


class Promise(NamedTuple):
    """Part of a card that a claim holds. `slot` names the device where the card is published in parts."""

    holder: ClaimRef
    device_uuid: str
    memory: int
    cores: int
    whole: bool
    slot: str = ""


class AllocatedClaims(Protocol):
    """What the API shows as allocated to this node's cards."""

    def claims(self, *, besides: Set[str] = frozenset()) -> tuple[Claim, ...]:
        """List the claims that hold something of this driver on this node, as far as is known; not these UIDs."""
        ...

    def trusted(self) -> bool:
        """Tell whether that is new enough to refuse a claim for it."""
        ...


def promises(claims: Iterable[PreparedClaim], *, cards: Collection[str] | None = None) -> tuple[Promise, ...]:
    """List what recorded claims hold; of the cards with these UUIDs alone where they are named."""
    return tuple(
        Promise(claim.ref, share.device_uuid, share.memory, share.cores, share.whole, _slot(share))
        for claim in claims
        for share in claim.shares
        if cards is None or share.device_uuid in cards
    )


def allocated_before(
    claim: Claim, others: Iterable[Claim], make_plan: Callable[[Claim], Plan | None]
) -> tuple[Promise, ...]:
    """List what claims hold that were allocated before this one.

    `make_plan` tells what a claim holds here; None where that cannot be told (it can never be prepared either).
    """
    earlier = [other for other in others if _allocation_order(other) < _allocation_order(claim)]
    plans = [plan for other in earlier if (plan := make_plan(other)) is not None]
    return tuple(_planned_promise(plan.ref, share) for plan in plans for share in plan.shares)


def check_fits(ref: ClaimRef, planned: Sequence[PlannedShare], held: Sequence[Promise]) -> None:
    """Refuse a plan that would promise more than a card has, given what OTHER claims hold.

    Raises:
        OverCommitted: with the card, the quantity, and the claims that hold the rest.
    """
    for device in {share.share.device for share in planned}:
        asked = [
            _planned_promise(ref, share)
            for share in planned
            if share.share.device is device or share.share.device == device
        ]
        others = [promise for promise in held if promise.device_uuid == device.uuid and promise.holder.uid != ref.uid]
        _check_card(ref, device, asked, others)


def _planned_promise(ref: ClaimRef, planned: PlannedShare) -> Promise:
    share = planned.share
    return Promise(ref, share.device.uuid, share.memory, share.cores, planned.whole, planned.slot)


def _slot(share: PreparedShare) -> str:
    return share.device if is_slot(share.device) else ""


def _allocation_order(claim: Claim) -> tuple[str, str]:
    """Order by time; RFC 3339 in UTC to the second, as the API server writes it, sorts as text."""
    return claim.allocated_at, claim.ref.uid


def _check_card(ref: ClaimRef, device: Device, asked: Sequence[Promise], others: Sequence[Promise]) -> None:
    everything = [*asked, *others]
    if any(promise.whole for promise in everything) and len(everything) > 1:
        raise OverCommitted(f"{ref}: card {device.name} is wanted whole, but {_holders(ref, device, everything)}")
    _check_slots(ref, device, everything)
    quantities = (
        ("memory", device.memory.value, sum(p.memory for p in asked), sum(p.memory for p in others)),
        ("cores", device.cores.value, sum(p.cores for p in asked), sum(p.cores for p in others)),
        ("shares", device.shares.value, len(asked), len(others)),
    )
    for name, value, wanted, taken in quantities:
        if wanted + taken > value:
            raise OverCommitted(
                f"{ref}: card {device.name} has {value} {name}, of which {taken} are held; {wanted} more do not fit: "
                f"{_holders(ref, device, everything)}"
            )


def _check_slots(ref: ClaimRef, device: Device, everything: Sequence[Promise]) -> None:
    """Refuse a slot that is held, and slots beside shares: the sizes of one say nothing about those of the other."""
    slots = [promise.slot for promise in everything if promise.slot]
    if len(slots) > len(set(slots)):
        raise OverCommitted(f"{ref}: a slot of card {device.name} is wanted, but {_holders(ref, device, everything)}")
    if slots and len(slots) < len(everything):
        raise OverCommitted(
            f"{ref}: card {device.name} is promised in slots and in shares, but {_holders(ref, device, everything)}"
        )


def _holders(ref: ClaimRef, device: Device, everything: Sequence[Promise]) -> str:
    others = sorted({str(promise.holder) for promise in everything if promise.holder.uid != ref.uid})
    if not others:
        return f"the claim itself names {device.name} {len(everything)} times"
    return f"it is held by {', '.join(others)}"
