"""What is promised on each card, and whether one more share fits: pure.

The scheduler counts too; but a node that enforces limits does not give out more than it has because somebody
else's count was wrong, stale, or made with a feature switched off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dra_driver.errors import OverCommitted
from dra_driver.kube.claims import ClaimRef
from dra_driver.kubeletplugin.checkpoint import PreparedClaim
from dra_driver.kubeletplugin.plan import PlannedShare
from drivers.model import Device


@dataclass(frozen=True)
class Promise:
    """Part of a card that a claim holds."""

    holder: ClaimRef
    device_uuid: str
    memory: int
    cores: int
    whole: bool


def promises(claims: Iterable[PreparedClaim]) -> tuple[Promise, ...]:
    """List what recorded claims hold."""
    return tuple(
        Promise(claim.ref, share.device_uuid, share.memory, share.cores, share.whole)
        for claim in claims
        for share in claim.shares
    )


def check_fits(ref: ClaimRef, planned: Sequence[PlannedShare], held: Sequence[Promise]) -> None:
    """Refuse a plan that would promise more than a card has, given what OTHER claims hold.

    Raises:
        OverCommitted: with the card, the quantity, and the claims that hold the rest.
    """
    for device in {share.share.device for share in planned}:
        asked = [
            Promise(ref, device.uuid, share.share.memory, share.share.cores, share.result.consumed is None)
            for share in planned
            if share.share.device is device or share.share.device == device
        ]
        others = [promise for promise in held if promise.device_uuid == device.uuid and promise.holder.uid != ref.uid]
        _check_card(ref, device, asked, others)


def _check_card(ref: ClaimRef, device: Device, asked: Sequence[Promise], others: Sequence[Promise]) -> None:
    everything = [*asked, *others]
    if any(promise.whole for promise in everything) and len(everything) > 1:
        raise OverCommitted(f"{ref}: card {device.name} is wanted whole, but {_holders(ref, device, everything)}")
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


def _holders(ref: ClaimRef, device: Device, everything: Sequence[Promise]) -> str:
    others = sorted({str(promise.holder) for promise in everything if promise.holder.uid != ref.uid})
    if not others:
        return f"the claim itself names {device.name} {len(everything)} times"
    return f"it is held by {', '.join(others)}"
