"""A percentage of a card's memory in a world of absolute amounts.

A claim cannot ask for half of whatever card it gets. But the cards of a cluster have few sizes, so a request can list
them: half of 16Gi on a card of 16Gi, or half of 80Gi on one of 80Gi. The sizes come from the published slices. Where
there are more sizes than a request can list, neighbours are taken together, and the smaller one decides: the share of a
card is then a little less than was asked, never more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dra_driver.kube.quantities import binary

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Band:
    """Cards with memory from `smallest` to `largest` bytes."""

    smallest: int
    largest: int

    def portion(self, percentage: int) -> int:
        """The bytes that the percentage is of the smallest of them, in whole MiB as HAMi counts."""
        return max(self.smallest // _MEBIBYTE * percentage // 100, 1) * _MEBIBYTE

    def condition(self, memory: str) -> str:
        """The CEL condition by which a card is one of them; `memory` names the capacity."""
        low, high = (f'{memory}.compareTo(quantity("{binary(size)}"))' for size in (self.smallest, self.largest))
        return f"{low} == 0" if self.smallest == self.largest else f"{low} >= 0 && {high} <= 0"

    @property
    def exact(self) -> bool:
        """Whether all of them have one size."""
        return self.smallest == self.largest


def bands(sizes: Iterable[int], *, most: int) -> tuple[Band, ...]:
    """Arrange sizes in at most so many bands, ascending, by joining those that are nearest in proportion."""
    found = [Band(size, size) for size in sorted(set(sizes))]
    while len(found) > most:
        nearest = min(range(len(found) - 1), key=lambda index: found[index + 1].largest / found[index].smallest)
        found[nearest : nearest + 2] = [Band(found[nearest].smallest, found[nearest + 1].largest)]
    return tuple(found)
