"""The sizes of cards as slices come and go."""

from __future__ import annotations

from typing import Any

import pytest

from dra_driver.errors import ObjectRejected
from dra_driver.migration.card_sizes import CardSizes, sizes_in
from dra_driver.migration.portions import Band, bands

GIB = 1 << 30


def pool(name: str, *memory: str, vendor: str = "nvidia", driver: str = "vgpu.hami.io", shared: bool = True) -> Any:
    devices = [
        {
            "name": f"gpu-{index}",
            "attributes": {"vendor": {"string": vendor}},
            "capacity": {"memory": {"value": value}},
            "allowMultipleAllocations": shared,
        }
        for index, value in enumerate(memory)
    ]
    return {"metadata": {"name": name}, "spec": {"driver": driver, "devices": devices}}


def test_sizes_are_kept_by_vendor() -> None:
    slices = [pool("a", "16Gi", "16Gi", "80Gi"), pool("b", "64Gi", vendor="hygon"), pool("c", "1Gi", driver="other")]
    assert sizes_in(slices, driver="vgpu.hami.io") == {
        "nvidia": frozenset({16 * GIB, 80 * GIB}),
        "hygon": frozenset({64 * GIB}),
    }


def test_slots_and_whole_cards_have_no_parts() -> None:
    assert sizes_in([pool("a", "16Gi", shared=False)], driver="vgpu.hami.io") == {}


def test_a_size_goes_with_the_last_slice_that_has_it() -> None:
    sizes = CardSizes(driver="vgpu.hami.io")
    sizes.saw(pool("a", "16Gi"))
    sizes.saw(pool("b", "16Gi", "80Gi"))
    sizes.gone("a")
    assert sizes.by_vendor() == {"nvidia": frozenset({16 * GIB, 80 * GIB})}
    sizes.saw(pool("b", "80Gi"))
    assert sizes.by_vendor() == {"nvidia": frozenset({80 * GIB})}
    sizes.gone("b")
    sizes.gone("never seen")
    assert sizes.by_vendor() == {}


@pytest.mark.parametrize("memory", ["lots", {}])
def test_a_slice_that_cannot_be_read_changes_nothing(memory: Any) -> None:
    sizes = CardSizes(driver="vgpu.hami.io")
    sizes.saw(pool("a", "16Gi"))
    with pytest.raises(ObjectRejected):
        sizes.saw(pool("a", memory))
    assert sizes.by_vendor() == {"nvidia": frozenset({16 * GIB})}


def test_the_nearest_sizes_are_joined_first() -> None:
    assert bands((10, 100, 101, 50), most=3) == (Band(10, 10), Band(50, 50), Band(100, 101))
    assert bands((), most=3) == ()


def test_a_portion_is_whole_mebibytes_and_never_nothing() -> None:
    assert Band(16 * GIB, 16 * GIB).portion(33) == 5406 << 20
    assert Band(50 << 20, 50 << 20).portion(1) == 1 << 20
