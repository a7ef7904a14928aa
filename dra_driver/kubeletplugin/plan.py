"""What a claim's allocation asks of this node: pure, from the claim and the cards to shares.

Limits are planned per result, which is per (request, device, shareID): never by a device's name or by the order
of a map, so that two shares of one card in one claim keep their own limits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from dra_driver.api.vgpuconfig import Source, VgpuConfig, decode, merge
from dra_driver.errors import ClaimNotReady, ObjectRejected
from dra_driver.kube import quantities
from dra_driver.kube.claims import Claim, ClaimRef, ConfigSource, Result
from drivers.model import ComputePolicy, Device, Priority, Share, ShareSettings

MEMORY = "memory"
CORES = "cores"

_PRECEDENCE = (ConfigSource.CLASS, ConfigSource.CLAIM)


# In the names of devices that are parts of a card; a card's own name has no such thing in it.
_SLOT = "-slot-"


def slot_name(card: str, number: int) -> str:
    """Name a part of a card."""
    return f"{card}{_SLOT}{number}"


def is_slot(device: str) -> bool:
    """Tell whether a device of this name is a part of a card, which nobody else may hold at the same time."""
    return _SLOT in device


@dataclass(frozen=True)
class Card:
    """A published device: where it is found in allocations, the card that it is on, and what is published of it.

    A slot is less than its card; for a shared card, both are the same.
    """

    pool: str
    device: Device
    published: Device | None = None

    @property
    def grants(self) -> Device:
        """What an allocation of the whole device grants."""
        return self.published or self.device


@dataclass(frozen=True)
class PlannedShare:
    """One result of ours and the share that it grants."""

    result: Result
    share: Share

    @property
    def whole(self) -> bool:
        """Tell whether the card is granted whole; a slot is allocated whole too, but is only a part of its card."""
        return self.result.consumed is None and self.share.memory == self.share.device.memory.value

    @property
    def slot(self) -> str:
        """The name of the slot that is granted, or ""."""
        return self.result.device if is_slot(self.result.device) else ""


@dataclass(frozen=True)
class Plan:
    """All that one claim is granted on this node by this driver."""

    ref: ClaimRef
    shares: tuple[PlannedShare, ...]
    pod_claim_name: str = ""


def make_plan(claim: Claim, *, driver: str, cards: Mapping[tuple[str, str], Card]) -> Plan:
    """Plan the shares of a claim. `cards` is keyed by (pool, device name).

    Raises:
        ClaimNotReady: nothing is allocated, or nothing of this driver.
        ObjectRejected: a result names a card that is not here, or lacks a quantity; a bad VgpuConfig.
    """
    if claim.results is None:
        raise ClaimNotReady(f"{claim.ref}: status.allocation: the claim is not allocated")
    ours = [result for result in claim.results if result.driver == driver]
    if not ours:
        others = ", ".join(sorted({result.driver for result in claim.results})) or "no driver"
        raise ClaimNotReady(
            f"{claim.ref}: status.allocation.devices.results: nothing of driver {driver} (there is {others})"
        )
    shares = tuple(_plan_share(claim, result, driver, cards) for result in ours)
    return Plan(claim.ref, shares, claim.pod_claim_name)


def base_request(request: str) -> str:
    """Name the request as containers do: without the alternative of it that was chosen (`request/alternative`)."""
    return request.partition("/")[0]


def share_key(claim_uid: str, result: Result) -> str:
    """Name a share: a DNS label that is the same after a restart, and differs for every result of a claim."""
    parts = (claim_uid, result.request, result.pool, result.device, result.share_id or "")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _plan_share(claim: Claim, result: Result, driver: str, cards: Mapping[tuple[str, str], Card]) -> PlannedShare:
    card = cards.get((result.pool, result.device))
    if card is None:
        known = ", ".join(f"{pool}/{name}" for pool, name in sorted(cards)) or "none"
        problem = f"{result.pool}/{result.device} is not on this node (here: {known})"
        raise ObjectRejected(str(claim.ref), f"{result.path}.device", problem)
    share = Share(
        key=share_key(claim.ref.uid, result),
        device=card.device,
        memory=_granted(claim.ref, result, MEMORY, whole=card.grants.memory.value),
        cores=_granted(claim.ref, result, CORES, whole=card.grants.cores.value),
        settings=_settings(claim, result.request, driver),
    )
    return PlannedShare(result, share)


def _granted(ref: ClaimRef, result: Result, capacity: str, *, whole: int) -> int:
    """Tell how much of a capacity the result grants; without consumedCapacity the device is granted whole.

    Cores that are not mentioned are none: no reservation and no cap. Memory must be there, since a share with
    a made-up limit would be somebody else's loss.
    """
    if result.consumed is None:
        return whole
    granted = result.consumed.get(capacity, 0 if capacity == CORES else None)
    if granted is None:
        raise ObjectRejected(str(ref), f"{result.path}.consumedCapacity", f"{capacity} is missing")
    if not 0 <= granted <= whole:
        problem = f"{granted} is not within 0 and the card's {whole}"
        raise ObjectRejected(str(ref), f"{result.path}.consumedCapacity[{capacity}]", problem)
    return granted


def _settings(claim: Claim, request: str, driver: str) -> ShareSettings:
    config = merge(_configs(claim, request, driver))
    return ShareSettings(
        compute_policy=ComputePolicy(config.compute_policy),
        priority=Priority(config.priority),
        host_memory=quantities.whole(config.memory.oversubscribe.host_memory),
        log_level=config.log_level,
    )


def _configs(claim: Claim, request: str, driver: str) -> list[VgpuConfig]:
    """List the configs that name the request (or its parent, or nothing), the class's first."""
    names = {request, base_request(request)}
    return [
        decode(config.parameters, Source(str(claim.ref), config.path))
        for source in _PRECEDENCE
        for config in claim.parameters
        if config.source is source and config.driver == driver and (not config.requests or names & set(config.requests))
    ]
