"""Selectors are judged as Kubernetes judges them, or not at all."""

from __future__ import annotations

import pytest

from dra_driver.explain.objects import Device
from dra_driver.explain.pools import Card
from dra_driver.explain.selectors import Answer, judge
from tests.unit.explain.situations import DRIVER

OURS = f'device.attributes["{DRIVER}"]'
ROOM = f'device.capacity["{DRIVER}"].memory'
CARD = Card(
    DRIVER,
    "node-a-nvidia",
    Device.model_validate(
        {
            "name": "gpu-0",
            "allowMultipleAllocations": True,
            "attributes": {
                "model": {"string": "A100"},
                "index": {"int": 1},
                "big": {"bool": True},
                "driverVersion": {"version": "570.1.0-rc.2"},
                "example.com/rack": {"string": "r1"},
            },
            "capacity": {"memory": {"value": "16Gi"}},
        }
    ),
    (),
)


@pytest.mark.parametrize(
    "expression",
    [
        f'device.driver == "{DRIVER}" && {OURS}.model == "A100"',
        f'{OURS}["model"].startsWith("A") && {OURS}.model.endsWith("100") && {OURS}.model.contains("10")',
        f'{OURS}.model.matches("^[AH]100$")',
        f"{OURS}.index in [1, 2] && {OURS}.index + 1 == 2 && -{OURS}.index < 0",
        f"{OURS}.big && device.allowMultipleAllocations && !(!{OURS}.big)",
        f'"model" in {OURS} && !("linkGroup" in {OURS}) && !has({OURS}.linkGroup)',
        'has(device.attributes["example.com"].rack) && !has(device.attributes["absent.com"].rack)',
        f'{ROOM}.compareTo(quantity("16Gi")) == 0 && {ROOM}.isGreaterThan(quantity("15.9Gi"))',
        f'{ROOM}.isLessThan(quantity("17179869185")) && {ROOM} == quantity("16384Mi")',
        f'{OURS}.driverVersion.isLessThan(semver("570.1.0")) && {OURS}.driverVersion.isGreaterThan(semver("570.0.9"))',
        f'{OURS}.driverVersion.compareTo(semver("570.1.0-rc.10")) < 0',
        f'{OURS}.driverVersion == semver("570.1.0-rc.2")',
        f"{OURS}.linkGroup == 0 || true",
        f"true || {OURS}.linkGroup == 0",
        f"{OURS}.index == 1 ? true : false",
        f"{OURS}.model == r'A100'",
    ],
)
def test_what_selects_the_card_is_a_yes(expression: str) -> None:
    assert judge(expression, CARD).answer is Answer.YES, judge(expression, CARD)


@pytest.mark.parametrize(
    "expression",
    [
        f'{OURS}.model == "H100"',
        f"{OURS}.model == 1",
        f"{OURS}.linkGroup == 0 && false",
        f'{ROOM}.isGreaterThan(quantity("16Gi"))',
    ],
)
def test_what_does_not_select_the_card_is_a_no(expression: str) -> None:
    assert judge(expression, CARD).answer is Answer.NO, judge(expression, CARD)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (f"{OURS}.linkGroup == 1", "no such key: linkGroup"),
        ('device.attributes["absent.com"].rack == "r1"', "no such key: rack"),
        (f"{OURS}.model < 3", ""),
        (f"{OURS}.index / 0 == 1", ""),
        (f"{OURS}.model", "neither true nor false"),
    ],
)
def test_what_fails_on_the_card_is_an_error(expression: str, why: str) -> None:
    judged = judge(expression, CARD)
    assert judged.answer is Answer.ERROR, judged
    assert why in judged.why


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (f"cel.bind(a, {OURS}, a.index == 1)", "cel"),
        (f"[1, 2].exists(i, i == {OURS}.index)", "exists"),
        (f"{OURS}.?linkGroup.orValue(1) == 1", "optional"),
        (f'{OURS}.model.lowerAscii() == "a100"', "lowerAscii"),
        (f'{OURS}.model.matches("(?i)a100")', "pattern"),
        (f'"{DRIVER}" in device.attributes', "presence of a domain"),
        (f'{OURS}.driverVersion == "570.1.0-rc.2"', "the version driverVersion"),
        (f'{OURS}.driverVersion.compareTo(semver("v570", true)) == 0', "normalises"),
        (f"{OURS}.index == 1.0", "syntax"),
        (f"{OURS}.index == 0x1", "syntax"),
        (f"{OURS}.index ==", "cannot be read"),
        ("claim.name == 'x'", "claim"),
        # The library counts bytes where Kubernetes counts characters.
        (f"size({OURS}.model) == 4", "size"),
        (f'{ROOM}.compareTo(quantity("much")) > 0', "not a quantity"),
    ],
)
def test_what_may_mean_something_else_in_kubernetes_is_unknown(expression: str, why: str) -> None:
    judged = judge(expression, CARD)
    assert judged.answer is Answer.UNKNOWN, judged
    assert why in judged.why
