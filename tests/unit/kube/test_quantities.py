"""Quantities: the canonical forms and refusals of Kubernetes' own parser."""

from __future__ import annotations

from fractions import Fraction

import pytest

from dra_driver.kube.quantities import binary, exact, whole


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1.5", "1500m"),
        ("0.5Gi", "512Mi"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1000m", "1"),
        ("1000000", "1M"),
        ("0.1Gi", "107374182400m"),
        ("1e3", "1k"),
        ("1E3", "1000"),
        ("1E", "1000P"),
        ("12e-1", "1200m"),
        ("+5", "5"),
        ("5.", "5"),
        (".5", "500m"),
        ("-1Ki", "-1024"),
        ("1000000000n", "1"),
        ("1000000u", "1"),
        ("1Ei", "1024Pi"),
        ("1Ti", "1024Gi"),
        ("1T", "1000G"),
    ],
)
def test_two_spellings_of_one_quantity_are_equal(text: str, canonical: str) -> None:
    assert exact(text) == exact(canonical)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1K", "1ki", "1mi", "NaN", "Infinity", "1_000", "1.2.3", "e3", "1e", "1e1.5", "1Gi1", "--1",
     "0x10", "1kk", "Gi", ".", "+", "\u0661", "1\n", "1e9999"],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        exact(text)


def test_a_text_of_absurd_length_is_refused_and_not_repeated_in_full() -> None:
    with pytest.raises(ValueError, match="is not a quantity") as caught:
        exact("9" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.1Gi", 107374183),
        ("5500m", 6),
        ("12.1", 13),
        ("1n", 1),
        ("0", 0),
        ("4Gi", 4 << 30),
        ("-1500m", -1),
        ("1G", 10**9),
    ],
)
def test_fractions_are_rounded_up_as_the_allocator_does(text: str, number: int) -> None:
    assert whole(text) == number


def test_what_is_below_one_is_kept_exactly() -> None:
    assert exact("1n") == Fraction(1, 10**9)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1023, "1023"),
        (1 << 10, "1Ki"),
        (512 << 20, "512Mi"),
        (16 << 30, "16Gi"),
        (16383 << 20, "16383Mi"),
        (1 << 60, "1Ei"),
        (1 << 41, "2Ti"),
    ],
)
def test_bytes_are_written_in_canonical_form(number: int, text: str) -> None:
    assert binary(number) == text
    assert whole(text) == number
