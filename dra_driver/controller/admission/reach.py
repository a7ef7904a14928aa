"""What the cards of the cluster could ever give: asks that no card can meet are warned about when they are made.

The question is not whether a card is free, which the explanation of a waiting claim answers, but whether it exists.
Cards that differ only in what makes each of them one of its own (UUID, place in the machine) are one kind here, so that
a large cluster costs no more memory and no more judging than a small one. Where a selector asks for one particular
card, or cannot be judged, the card counts as selected: a warning is given only where it is certain.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import structlog
from pydantic import ValidationError

from dra_driver.controller.admission.review import Warned
from dra_driver.controller.admission.subjects import PlacedAsk
from dra_driver.explain.amounts import NotRepresentable, most_allowed, write
from dra_driver.explain.judging import Wanted, fits_capacity, selection
from dra_driver.explain.objects import Ask, Device, DeviceClass, Selector
from dra_driver.explain.pools import Card
from dra_driver.explain.reasons import Code

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Attributes that tell one card from another of its kind.
_OF_ONE_CARD = re.compile(r"\b(uuid|index|pciBusID|pcieRoot|numaNode|linkGroup[0-9]*|serial)\b")
# What cards of the driver have, for a cluster that has none yet.
_PUBLISHED = ("cores", "memory", "shares")
# What one review may cost: letters of selectors, once for each kind of cards. It is about a tenth of a second, in which
# nothing else is answered; what a tenant writes must not take longer, and other drivers' cards may be of many kinds.
_MOST_LETTERS = 50_000


class Caution(StrEnum):
    """What is warned about."""

    TOO_LARGE = "LargerThanAnyCard"
    UNKNOWN_CAPACITY = "UnknownCapacity"


class Reach:
    """Kinds of cards and the classes that select them, kept from the watch."""

    def __init__(self, *, driver: str) -> None:
        self._driver = driver
        self._slices: dict[str, tuple[str, ...]] = {}
        self._uses: Counter[str] = Counter()
        self._kinds: dict[str, Card] = {}
        self._classes: dict[str, DeviceClass] = {}

    def saw_slice(self, wire: Mapping[str, Any]) -> None:
        """Take in a slice as it is now."""
        self.slice_gone(wire)
        spec = wire.get("spec") or {}
        driver = str(spec.get("driver", ""))
        found = {f"{driver} {key}": device for key, device in map(_kind, spec.get("devices") or ())}
        self._kinds |= {key: _card(driver, device) for key, device in found.items() if key not in self._kinds}
        self._uses.update(found.keys())
        self._slices[_name(wire)] = tuple(found)

    def slice_gone(self, wire: Mapping[str, Any]) -> None:
        """Forget a slice, and the kinds that only it had."""
        for key in self._slices.pop(_name(wire), ()):
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key], self._kinds[key]

    def saw_class(self, wire: Mapping[str, Any]) -> None:
        """Take in a class as it is now."""
        try:
            self._classes[_name(wire)] = DeviceClass.model_validate(wire)
        except ValidationError as error:
            log.warning("class_unreadable", device_class=_name(wire), error=str(error))

    def class_gone(self, wire: Mapping[str, Any]) -> None:
        """Forget a class."""
        self._classes.pop(_name(wire), None)

    def warnings(self, asks: Sequence[PlacedAsk]) -> Iterator[Warned]:
        """What no card could give, for each ask of a class of ours; nothing where it is not certain."""
        left = _MOST_LETTERS
        for one in asks:
            device_class = self._classes.get(one.ask.device_class_name)
            if device_class is None or not one.ask.capacity.requests:
                continue
            wanted = _without_one_card(one, device_class)
            left -= _letters(wanted) * len(self._kinds)
            if left < 0:
                return
            yield from self._of_ask(one, wanted)

    def _of_ask(self, one: PlacedAsk, wanted: Wanted) -> Iterator[Warned]:
        reached = [card for card in self._kinds.values() if _reaches(wanted, card)]
        if not any(card.driver == self._driver for card in reached):
            if not reached and self._is_ours(wanted.device_class.metadata.name):
                yield from _unknown(one, [name for name in one.ask.capacity.requests if name not in _PUBLISHED])
        elif not any(_fits(one.ask, card) for card in reached):
            yield from _impossible(one, reached)

    def _is_ours(self, name: str) -> bool:
        return name == self._driver or name.endswith(f".{self._driver}")


def _name(wire: Mapping[str, Any]) -> str:
    return str((wire.get("metadata") or {}).get("name", ""))


def _kind(device: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a device has in common with others of its kind, and a key for it."""
    attributes = {
        name: value for name, value in (device.get("attributes") or {}).items() if not _OF_ONE_CARD.search(name)
    }
    common = {
        "attributes": attributes,
        "capacity": device.get("capacity") or {},
        "allowMultipleAllocations": device.get("allowMultipleAllocations"),
    }
    return json.dumps(common, sort_keys=True), common


def _card(driver: str, common: Mapping[str, Any]) -> Card:
    return Card(driver, "", Device.model_validate({**common, "name": "any"}), ())


def _without_one_card(one: PlacedAsk, device_class: DeviceClass) -> Wanted:
    """The ask without selectors that are about single cards."""
    spec = device_class.spec.model_copy(update={"selectors": _general(device_class.spec.selectors)})
    ask = one.ask.model_copy(update={"selectors": _general(one.ask.selectors)})
    return Wanted(one.name, ask, device_class.model_copy(update={"spec": spec}))


def _general(selectors: tuple[Selector, ...]) -> tuple[Selector, ...]:
    return tuple(one for one in selectors if one.cel is None or not _OF_ONE_CARD.search(one.cel.expression))


def _letters(wanted: Wanted) -> int:
    selectors = (*wanted.device_class.spec.selectors, *wanted.ask.selectors)
    return sum(len(one.cel.expression) for one in selectors if one.cel)


def _reaches(wanted: Wanted, card: Card) -> bool:
    reason = selection(wanted, card)
    return reason is None or reason.code is Code.SELECTOR_UNKNOWN


def _fits(ask: Ask, card: Card) -> bool:
    """Whether the card, if it were free, could give it."""
    try:
        return fits_capacity(ask, card, {})
    except NotRepresentable:
        return False


def _impossible(one: PlacedAsk, reached: Sequence[Card]) -> Iterator[Warned]:
    asked = one.ask.capacity.requests
    unknown = [name for name in asked if not any(name in card.device.capacity for card in reached)]
    yield from _unknown(one, unknown, sorted({name for card in reached for name in card.device.capacity}))
    largest = {name: _largest(name, reached) for name in asked if name not in unknown}
    beyond = {name: most for name, most in largest.items() if asked[name] > most}
    for name, most in beyond.items():
        words = f"{write(asked[name])} is more than the largest card for this request can give ({write(most)})"
        yield _warned(Caution.TOO_LARGE, one, name, words)
    if largest and not beyond and not unknown:
        together = ", ".join(f"{name} {write(amount)}" for name, amount in asked.items())
        yield _warned(Caution.TOO_LARGE, one, "", f"no card for this request can give all of this: {together}")


def _largest(name: str, reached: Sequence[Card]) -> int:
    """The most that a request may have of it, rounded down."""
    having = [card.device.capacity[name] for card in reached if name in card.device.capacity]
    return int(max(most_allowed(capacity.value, capacity) or 0 for capacity in having))


def _unknown(one: PlacedAsk, names: Sequence[str], known: Sequence[str] = _PUBLISHED) -> Iterator[Warned]:
    for name in names:
        words = f"no card for this request has such a capacity (there are {', '.join(known)})"
        yield _warned(Caution.UNKNOWN_CAPACITY, one, name, words)


def _warned(caution: Caution, one: PlacedAsk, name: str, words: str) -> Warned:
    return Warned(caution, f"{one.path}.capacity.requests{f'[{name}]' if name else ''}: {words}: the claim will wait")
