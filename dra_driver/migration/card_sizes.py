"""The sizes of the cards that a cluster shares, by vendor: what a percentage of a card's memory is a percentage of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dra_driver.errors import ObjectRejected
from dra_driver.kube.claims import dotted
from dra_driver.kube.quantities import whole


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Attribute(_Read):
    string: str = ""


class _Capacity(_Read):
    value: str | int


class _Device(_Read):
    attributes: dict[str, _Attribute] = {}
    capacity: dict[str, _Capacity] = {}
    allow_multiple_allocations: bool | None = Field(default=None, alias="allowMultipleAllocations")


class _Spec(_Read):
    driver: str
    devices: tuple[_Device, ...] | None = ()


class _Metadata(_Read):
    name: str


class _Slice(_Read):
    metadata: _Metadata
    spec: _Spec


class CardSizes:
    """Kept from slices as they come and go; the cost of a change is that of its own slice."""

    def __init__(self, *, driver: str) -> None:
        self._driver = driver
        self._slices: dict[str, frozenset[tuple[str, int]]] = {}
        self._uses: Counter[tuple[str, int]] = Counter()

    def saw(self, wire: Mapping[str, Any]) -> None:
        """Take in a slice as it is now. Raises ObjectRejected."""
        try:
            read = _Slice.model_validate(wire)
            sizes = frozenset(_sizes(read.spec, self._driver) if read.spec.driver == self._driver else ())
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise ObjectRejected("ResourceSlice", dotted(first["loc"]), first["msg"]) from error
        except ValueError as error:
            raise ObjectRejected("ResourceSlice", "spec.devices", str(error)) from error
        self.gone(read.metadata.name)
        self._slices[read.metadata.name] = sizes
        self._uses.update(sizes)

    def gone(self, name: str) -> None:
        """Forget a slice."""
        self._uses.subtract(self._slices.pop(name, ()))

    def by_vendor(self) -> Mapping[str, frozenset[int]]:
        """The sizes in bytes."""
        found: dict[str, set[int]] = {}
        for (vendor, size), uses in self._uses.items():
            if uses > 0:
                found.setdefault(vendor, set()).add(size)
        return {vendor: frozenset(sizes) for vendor, sizes in found.items()}


def sizes_in(slices: Iterable[Mapping[str, Any]], *, driver: str) -> Mapping[str, frozenset[int]]:
    """Tell the sizes of the cards in these slices. Raises ObjectRejected."""
    sizes = CardSizes(driver=driver)
    for wire in slices:
        sizes.saw(wire)
    return sizes.by_vendor()


def _sizes(spec: _Spec, driver: str) -> Iterator[tuple[str, int]]:
    """Only what is shared: a slot is not a card, and a whole card has no parts."""
    for device in spec.devices or ():
        vendor = device.attributes.get("vendor") or device.attributes.get(f"{driver}/vendor")
        memory = device.capacity.get("memory") or device.capacity.get(f"{driver}/memory")
        if device.allow_multiple_allocations and vendor is not None and vendor.string and memory is not None:
            yield vendor.string, whole(str(memory.value))
