"""A card's name follows its UUID alone, as far as it can."""

from __future__ import annotations

from drivers.nvidia.naming import device_names

FIRST = "GPU-8f3a1c2d-0000-1111-2222-333344445555"
SECOND = "GPU-8f3a1c2d-0001-1111-2222-333344445555"
THIRD = "GPU-12345678-0001-1111-2222-333344445555"


def test_name_is_the_first_eight_digits() -> None:
    assert device_names([FIRST, THIRD]) == {FIRST: "gpu-8f3a1c2d", THIRD: "gpu-12345678"}


def test_names_that_would_collide_grow_until_they_differ_and_others_stay() -> None:
    assert device_names([FIRST, SECOND, THIRD]) == {
        FIRST: "gpu-8f3a1c2d0000",
        SECOND: "gpu-8f3a1c2d0001",
        THIRD: "gpu-12345678",
    }


def test_name_does_not_depend_on_the_order_of_the_cards() -> None:
    assert device_names([THIRD, SECOND, FIRST]) == device_names([FIRST, SECOND, THIRD])


def test_capitals_and_punctuation_never_reach_a_name() -> None:
    assert device_names(["GPU-AB_CD.EF-0123456"]) == {"GPU-AB_CD.EF-0123456": "gpu-abcdef01"}


def test_no_cards_have_no_names() -> None:
    assert device_names([]) == {}
