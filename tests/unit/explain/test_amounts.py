"""What a request takes of a card: vectors that the scheduler's own code gave."""

from __future__ import annotations

from typing import Any

import pytest

from dra_driver.explain.amounts import NotRepresentable, breaks_policy, consumed, most_allowed, write
from dra_driver.explain.objects import Capacity
from dra_driver.kube.quantities import exact

WHOLE_GIB = {"min": "1Gi", "max": "16Gi", "step": "1Gi"}
GIB = {"value": "64Gi", "requestPolicy": {"default": "1Gi", "validRange": WHOLE_GIB}}
OFFSET = {"value": "64Gi", "requestPolicy": {"default": "100Mi", "validRange": {"min": "100Mi", "step": "1Gi"}}}
CORES = {"value": "100", "requestPolicy": {"default": "5", "validRange": {"min": "5", "max": "100", "step": "5"}}}
VALUES = {"value": "16Gi", "requestPolicy": {"default": "4Gi", "validValues": ["4Gi", "8Gi", "16Gi"]}}
DEFAULT = {"value": "100", "requestPolicy": {"default": "0"}}
PLAIN = {"value": "16Gi"}


@pytest.mark.parametrize(
    ("wire", "asked", "taken"),
    [
        (GIB, None, "1Gi"),
        (GIB, "0", "1Gi"),
        (GIB, "1100Mi", "2Gi"),
        (GIB, "1G", "1Gi"),
        (GIB, "15.5Gi", "16Gi"),
        (OFFSET, "200Mi", "1124Mi"),
        (CORES, "1", "5"),
        (CORES, "6", "10"),
        (CORES, "12.1", "15"),
        (CORES, "5500m", "10"),
        (VALUES, "5Gi", "8Gi"),
        (DEFAULT, None, "0"),
        (DEFAULT, "30", "30"),
        (PLAIN, None, "16Gi"),
        (PLAIN, "3Gi", "3Gi"),
    ],
)
def test_amounts_are_rounded_as_the_allocator_rounds_them(wire: Any, asked: str | None, taken: str) -> None:
    capacity = Capacity.model_validate(wire)
    amount = consumed(None if asked is None else exact(asked), capacity)
    assert amount == exact(taken)
    assert not breaks_policy(amount, capacity.request_policy)


@pytest.mark.parametrize(("wire", "asked"), [(GIB, "16.1Gi"), (VALUES, "17Gi"), (CORES, "101")])
def test_amounts_beyond_the_policy_are_not_allowed(wire: Any, asked: str) -> None:
    capacity = Capacity.model_validate(wire)
    assert breaks_policy(consumed(exact(asked), capacity), capacity.request_policy)


@pytest.mark.parametrize(("wire", "asked"), [(GIB, "2147483648.0001"), (GIB, "10E"), (PLAIN, "-1")])
def test_amounts_that_the_allocator_cannot_count_are_refused(wire: Any, asked: str) -> None:
    with pytest.raises(NotRepresentable):
        consumed(exact(asked), Capacity.model_validate(wire))


@pytest.mark.parametrize(
    ("wire", "free", "most"),
    [
        (GIB, "4.5Gi", "4Gi"),
        (GIB, "64Gi", "16Gi"),
        (GIB, "512Mi", None),
        (OFFSET, "2Gi", "1124Mi"),
        (CORES, "40", "40"),
        (CORES, "4", None),
        (VALUES, "10Gi", "8Gi"),
        (VALUES, "1Gi", None),
        (PLAIN, "3Gi", "3Gi"),
        (PLAIN, "0", None),
    ],
)
def test_the_largest_amount_that_fits_is_one_that_the_policy_allows(wire: Any, free: str, most: str | None) -> None:
    capacity = Capacity.model_validate(wire)
    found = most_allowed(exact(free), capacity)
    assert found == (None if most is None else exact(most))
    if found is not None:
        assert consumed(found, capacity) == found


@pytest.mark.parametrize("text", ["4Gi", "16.1Gi", "30", "1500m", "0", "1124Mi", "7"])
def test_amounts_are_written_as_they_are_read(text: str) -> None:
    number = exact(text)
    assert write(number) == text
