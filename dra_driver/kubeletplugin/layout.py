"""How one card becomes published devices: pure.

A layout is what the configuration makes of a card: small enough to be remembered, so that a card that is in use keeps
the devices that its claims name while the configuration already wants others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from dra_driver.configuration import CardFacts, CardMode, Cards, Slots
from dra_driver.kubeletplugin.plan import slot_name
from drivers.model import Capacity, Device, Mode, Range, Values


class LayoutImpossible(ValueError):
    """A card cannot be cut as the configuration wants; the message says why."""


class Layout(BaseModel):
    """How a card is published. `memory` in bytes and `cores` in percent are those of one slot."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: CardMode = CardMode.SHARED
    shares: int | None = None
    number: int = 0
    memory: int = 0
    cores: int = 0


@dataclass(frozen=True)
class Published:
    """One device of a slice, and the card that it is on.

    `card` is the card itself, with as many tenants as its layout lets it have; `device` is what is published of it.
    """

    device: Device
    card: Device


def wanted_layout(device: Device, cards: Cards, *, node: str) -> Layout:
    """Tell what the configuration makes of a card. Raises LayoutImpossible."""
    facts = CardFacts(
        uuid=device.uuid,
        index=device.index,
        vendor=device.vendor,
        model=device.model,
        pci_bus_id=device.pci_bus_id,
    )
    treatment = cards.treatment(facts, node)
    if treatment.slots is not None:
        return _cut(device, treatment.slots)
    return Layout(mode=treatment.mode, shares=treatment.shares)


def publish(device: Device, layout: Layout) -> tuple[Published, ...]:
    """List the devices that a card becomes, none where it is excluded."""
    match layout.mode:
        case CardMode.EXCLUDED:
            return ()
        case CardMode.SHARED:
            card = device if layout.shares is None else replace(device, shares=_tenants(layout.shares))
            return (Published(card, card),)
        case CardMode.WHOLE:
            card = replace(device, shares=_tenants(1))
            return (Published(_exclusive(card, device.name, device.memory.value, device.cores.value), card),)
        case CardMode.SLOTS:
            card = replace(device, shares=_tenants(layout.number))
            return tuple(
                Published(_exclusive(card, slot_name(device.name, slot), layout.memory, layout.cores), card)
                for slot in range(layout.number)
            )


def _cut(device: Device, slots: Slots) -> Layout:
    """Fill in what the configuration leaves to the card. Sizes are whole steps of the card's memory."""
    step = device.memory.policy.step if isinstance(device.memory.policy, Range) else 1
    total = device.memory.value
    number = slots.number if slots.number is not None else total // (slots.memory or total)
    if number < 1:
        raise LayoutImpossible(f"slots.memory: {slots.memory} bytes are more than the card's {total}")
    memory = (slots.memory if slots.memory is not None else total // number) // step * step
    if memory < step:
        raise LayoutImpossible(f"slots.memory: a slot is less than the card's step of {step} bytes")
    if number * memory > total:
        raise LayoutImpossible(f"slots: {number} of {memory} bytes are more than the card's {total}")
    cores = slots.cores if slots.cores is not None else device.cores.value // number
    if number * cores > device.cores.value:
        raise LayoutImpossible(f"slots: {number} of {cores} percent are more than the card's {device.cores.value}")
    return Layout(mode=CardMode.SLOTS, number=number, memory=memory, cores=cores)


def _tenants(number: int) -> Capacity:
    return Capacity(number, Values((1,), default=1))


def _exclusive(card: Device, name: str, memory: int, cores: int) -> Device:
    """Make a device that is allocated as a whole: capacities without a policy, for nothing can be asked of them."""
    return replace(card, name=name, mode=Mode.SLOT, memory=Capacity(memory), cores=Capacity(cores), shares=Capacity(1))
