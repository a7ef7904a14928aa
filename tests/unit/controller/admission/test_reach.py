"""What no card of the cluster could give is warned about; what is not certain is not."""

from __future__ import annotations

from typing import Any

import pytest

from dra_driver.controller.admission.reach import Reach
from dra_driver.controller.admission.subjects import read_subject
from tests.unit.controller.admission.asking import DRIVER, claim, template

JsonObject = dict[str, Any]
EXACTLY = "spec.devices.requests[0].exactly.capacity.requests"
NAMES = "cores, memory, shares"
WAITS = "the claim will wait"
OURS = f'device.driver == "{DRIVER}"'


def device(number: int, memory: str, model: str = "A100", **more: Any) -> JsonObject:
    return {
        "name": f"gpu-{number}",
        "allowMultipleAllocations": True,
        "attributes": {
            "model": {"string": model},
            "uuid": {"string": f"GPU-{number}"},
            "index": {"int": number},
            "resource.kubernetes.io/pciBusID": {"string": f"0000:0{number}:00.0"},
        },
        "capacity": {
            "memory": {
                "value": memory,
                "requestPolicy": {"default": memory, "validRange": {"min": "1Mi", "step": "1Mi"}},
            },
            "cores": {
                "value": "100",
                "requestPolicy": {"default": "0", "validRange": {"min": "0", "step": "1", "max": "100"}},
            },
        },
        **more,
    }


def piece(name: str, *devices: JsonObject, driver: str = DRIVER) -> JsonObject:
    return {"metadata": {"name": name}, "spec": {"driver": driver, "pool": {"name": name}, "devices": list(devices)}}


def of_class(name: str, expression: str) -> JsonObject:
    return {"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}


@pytest.fixture
def reach() -> Reach:
    """Two nodes with a small card each and one with a larger one; ours and another driver's class."""
    known = Reach(driver=DRIVER)
    known.saw_slice(piece("a", device(0, "40Gi")))
    known.saw_slice(piece("b", device(1, "40Gi")))
    known.saw_slice(piece("c", device(2, "80Gi", "H100")))
    known.saw_class(of_class(DRIVER, OURS))
    known.saw_class(of_class(f"nvidia.{DRIVER}", OURS))
    known.saw_class(of_class("other", 'device.driver == "gpu.example.com"'))
    return known


def warnings(known: Reach, ask: JsonObject, make: Any = claim) -> list[tuple[str, str]]:
    wire = make(requests=[{"name": "gpu", **ask}])
    subject = read_subject(wire["kind"], "v1", wire, driver=DRIVER)
    return [(one.reason, one.message) for one in known.warnings(subject.asks)]


def asking(*selectors: str, device_class: str = DRIVER, **capacity: str) -> JsonObject:
    return {
        "deviceClassName": device_class,
        "selectors": [{"cel": {"expression": expression}} for expression in selectors],
        "capacity": {"requests": capacity},
    }


def exactly(*selectors: str, device_class: str = DRIVER, **capacity: str) -> JsonObject:
    return {"exactly": asking(*selectors, device_class=device_class, **capacity)}


@pytest.mark.parametrize("capacity", [{}, {"memory": "80Gi"}, {"memory": "1", "cores": "100"}, {"memory": "79.5Gi"}])
def test_what_some_card_could_give_is_no_matter(reach: Reach, capacity: dict[str, str]) -> None:
    assert warnings(reach, exactly(**capacity)) == []


def test_more_than_the_largest_card_is_warned_about_with_numbers(reach: Reach) -> None:
    assert warnings(reach, exactly(memory="96Gi")) == [
        (
            "LargerThanAnyCard",
            f"{EXACTLY}[memory]: 96Gi is more than the largest card for this request can give (80Gi): {WAITS}",
        )
    ]


def test_the_largest_card_is_the_one_that_the_selectors_allow(reach: Reach) -> None:
    model = f'device.attributes["{DRIVER}"].model == "A100"'
    ((reason, message),) = warnings(reach, exactly(model, memory="48Gi"))
    assert reason == "LargerThanAnyCard"
    assert "(40Gi)" in message


def test_each_alternative_is_looked_at(reach: Reach) -> None:
    choices = [{"name": "big", **asking(memory="96Gi")}, {"name": "small", **asking(memory="1Gi")}]
    ((_, message),) = warnings(reach, {"firstAvailable": choices}, template)
    assert message.startswith("spec.spec.devices.requests[0].firstAvailable[0].capacity.requests[memory]: ")


def test_a_misspelt_capacity_is_warned_about_with_those_that_there_are(reach: Reach) -> None:
    ((reason, message),) = warnings(reach, exactly(mem="1Gi"))
    assert reason == "UnknownCapacity"
    assert "[mem]: no card for this request has such a capacity (there are cores, memory)" in message


def test_several_things_are_each_said(reach: Reach) -> None:
    told = [reason for reason, _ in warnings(reach, exactly(mem="1Gi", memory="96Gi", cores="150"))]
    assert sorted(told) == ["LargerThanAnyCard", "LargerThanAnyCard", "UnknownCapacity"]


def test_what_no_single_card_has_together_is_said(reach: Reach) -> None:
    odd = device(3, "20Gi")
    odd["capacity"]["cores"]["value"] = "200"
    odd["capacity"]["cores"]["requestPolicy"]["validRange"]["max"] = "200"
    reach.saw_slice(piece("d", odd))
    ((_, message),) = warnings(reach, exactly(memory="40Gi", cores="150"))
    assert "capacity.requests: no card for this request can give all of this: memory 40Gi, cores 150" in message


def test_a_whole_card_is_measured_by_what_it_has(reach: Reach) -> None:
    reach.saw_slice(piece("d", {"name": "slot-0", "capacity": {"memory": {"value": "90Gi"}}}))
    assert warnings(reach, exactly(memory="90Gi")) == []
    assert len(warnings(reach, exactly(memory="91Gi"))) == 1


@pytest.mark.parametrize(
    "selector",
    [
        f'device.attributes["{DRIVER}"].uuid == "GPU-0"',
        'device.attributes["resource.kubernetes.io"].pciBusID == "0000:00:00.0"',
        f'device.attributes["{DRIVER}"].model.lowerAscii() == "h100"',
    ],
)
def test_a_selector_for_one_card_or_beyond_our_understanding_counts_as_met(reach: Reach, selector: str) -> None:
    assert warnings(reach, exactly(selector, memory="80Gi")) == []
    assert len(warnings(reach, exactly(selector, memory="81Gi"))) == 1


def test_a_selector_that_meets_nothing_is_not_a_matter_of_size(reach: Reach) -> None:
    assert warnings(reach, exactly(f'device.attributes["{DRIVER}"].model == "none"', memory="1Ti", mem="1")) == [
        (
            "UnknownCapacity",
            f"{EXACTLY}[mem]: no card for this request has such a capacity (there are {NAMES}): {WAITS}",
        )
    ]


def test_other_drivers_classes_and_unknown_ones_are_left_alone(reach: Reach) -> None:
    reach.saw_slice(piece("x", device(0, "1Gi"), driver="gpu.example.com"))
    assert warnings(reach, exactly(device_class="other", memory="1Ti", mem="1")) == []
    assert warnings(reach, exactly(device_class="nobody", memory="1Ti", mem="1")) == []


def test_without_any_card_only_names_are_looked_at() -> None:
    empty = Reach(driver=DRIVER)
    empty.saw_class(of_class(f"nvidia.{DRIVER}", OURS))
    told = warnings(empty, exactly(device_class=f"nvidia.{DRIVER}", memory="1Ti", mem="1Gi"))
    assert [reason for reason, _ in told] == ["UnknownCapacity"]


def test_the_picture_follows_the_cluster(reach: Reach) -> None:
    assert len(warnings(reach, exactly(memory="96Gi"))) == 1
    reach.saw_slice(piece("c", device(2, "141Gi", "H200")))
    assert warnings(reach, exactly(memory="96Gi")) == []
    reach.slice_gone(piece("c"))
    ((_, message),) = warnings(reach, exactly(memory="96Gi"))
    assert "(40Gi)" in message
    reach.slice_gone(piece("a"))
    assert len(warnings(reach, exactly(memory="96Gi"))) == 1, "node b still has such a card"
    reach.class_gone(of_class(DRIVER, ""))
    assert warnings(reach, exactly(memory="96Gi")) == []


def test_a_thousand_cards_of_one_kind_are_one_kind() -> None:
    known = Reach(driver=DRIVER)
    for node in range(125):
        known.saw_slice(piece(f"node-{node}", *(device(number, "80Gi") for number in range(8))))
    assert len(known._kinds) == 1
    for node in range(125):
        known.slice_gone(piece(f"node-{node}"))
    assert not known._kinds
    assert not known._uses


def test_amounts_that_the_allocator_cannot_count_are_too_large(reach: Reach) -> None:
    assert len(warnings(reach, exactly(memory="9000000P"))) == 1


def test_a_claim_that_is_costly_to_judge_is_not_judged_to_its_end(reach: Reach) -> None:
    costly = f'device.attributes["{DRIVER}"].model != "{"x" * 9000}"'
    ask = {"exactly": asking(costly, memory="96Gi")}
    requests = [{"name": f"r{number}", **ask} for number in range(32)]
    subject = read_subject("ResourceClaim", "v1", claim(requests=requests), driver=DRIVER)
    assert 0 < len(list(reach.warnings(subject.asks))) < 5
    assert len(warnings(reach, exactly(memory="96Gi"))) == 1, "the next review has its own measure"
