"""VgpuConfig: strict when it is read, and merged field by field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from dra_driver.api.vgpuconfig import Source, VgpuConfig, decode, merge
from dra_driver.errors import ConfigRejected
from tests.support.claims import vgpu_config

SOURCE = Source("ResourceClaim team-a/train", "config[0].opaque.parameters")


def read(**fields: Any) -> VgpuConfig:
    return decode(vgpu_config(**fields), SOURCE)


def swap(amount: object) -> dict[str, Any]:
    """The part `memory` of a config that lets a share use so much of the host's memory."""
    return {"oversubscribe": {"hostMemory": amount}}


def swapped(config: VgpuConfig) -> str:
    return config.memory.oversubscribe.host_memory


def test_defaults_hold_where_nothing_is_said() -> None:
    config = read()
    assert (config.compute_policy, config.priority, config.memory.oversubscribe.host_memory, config.log_level) == (
        "fixed",
        "low",
        "0",
        "off",
    )


def test_every_field_is_read() -> None:
    config = read(computePolicy="burst", priority="high", memory=swap("8Gi"), logLevel="debug")
    assert (config.compute_policy, config.priority, config.memory.oversubscribe.host_memory, config.log_level) == (
        "burst",
        "high",
        "8Gi",
        "debug",
    )


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"computPolicy": "fixed"}, "computPolicy", "unknown field .*computePolicy"),
        ({"compute_policy": "fixed"}, "compute_policy", "unknown field"),
        ({"memory": {"oversubscibe": {}}}, "memory.oversubscibe", "unknown field .known here: oversubscribe"),
        ({"memory": {"oversubscribe": "yes"}}, "memory.oversubscribe", "an object .with: hostMemory., not 'yes'"),
        ({"memory": {"oversubscribe": True}}, "memory.oversubscribe", "an object .with: hostMemory., not True"),
        ({"memory": {"oversubscribe": {}}}, "memory.oversubscribe.hostMemory", "required"),
        ({"memory": {"oversubscribe": {"host": "1Gi"}}}, "memory.oversubscribe.hostMemory", "required"),
        ({"memory": None}, "memory", "an object .with: oversubscribe."),
        ({"memory": []}, "memory", "an object .with: oversubscribe."),
        ({"priority": "urgent"}, "priority", "'high' or 'low', not 'urgent'"),
        ({"computePolicy": "Fixed"}, "computePolicy", "not 'Fixed'"),
        ({"logLevel": 3}, "logLevel", "not 3"),
        ({"apiVersion": "vgpu.hami.io/v2"}, "apiVersion", "not 'vgpu.hami.io/v2'"),
        ({"kind": "GpuConfig"}, "kind", "'VgpuConfig', not 'GpuConfig'"),
    ],
)
def test_a_bad_field_is_refused_with_its_path(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ConfigRejected, match=words) as caught:
        read(**fields)
    assert caught.value.path == f"config[0].opaque.parameters.{field}"
    assert caught.value.subject == "ResourceClaim team-a/train"


@pytest.mark.parametrize("missing", ["apiVersion", "kind"])
def test_what_does_not_say_what_it_is_is_refused(missing: str) -> None:
    parameters = vgpu_config()
    del parameters[missing]
    with pytest.raises(ConfigRejected) as caught:
        decode(parameters, SOURCE)
    assert caught.value.path.endswith(f".{missing}")


def test_later_configs_win_field_by_field() -> None:
    merged = merge([read(computePolicy="burst", priority="high"), read(priority="low", logLevel="info")])
    assert (merged.compute_policy, merged.priority, merged.log_level) == ("burst", "low", "info")


def test_a_field_that_is_written_wins_even_where_it_says_the_default() -> None:
    assert merge([read(computePolicy="shared"), read(computePolicy="fixed")]).compute_policy == "fixed"


@pytest.mark.parametrize("amount", ["0", "1", "8Gi", "1.5Gi", "500M", "2Ti", 1 << 30])
def test_an_amount_of_host_memory_is_a_quantity_or_a_number_of_bytes(amount: str | int) -> None:
    assert swapped(read(memory=swap(amount))) == str(amount)


@pytest.mark.parametrize(
    "amount", ["-1Gi", "8 Gi", "8GiB", "", "all", "1e9", "0.5", "9" * 19, "999999Ti", 1.5, True, -1]
)
def test_what_is_no_amount_of_memory_is_refused(amount: object) -> None:
    with pytest.raises(ConfigRejected, match="an amount of memory, such as 8Gi") as caught:
        read(memory=swap(amount))
    assert caught.value.path.endswith(".memory.oversubscribe.hostMemory")


def test_nested_fields_are_laid_over_each_other() -> None:
    assert swapped(merge([read(memory=swap("8Gi")), read(memory={})])) == "8Gi"
    assert swapped(merge([read(memory=swap("8Gi")), read()])) == "8Gi"
    assert swapped(merge([read(memory={}), read(memory=swap("8Gi"))])) == "8Gi"
    assert swapped(merge([read(memory=swap("8Gi")), read(memory=swap("0"))])) == "0"


def test_no_config_at_all_is_the_default() -> None:
    assert merge([]) == read()


def test_merging_leaves_what_is_merged_as_it_was() -> None:
    below, above = read(memory=swap("8Gi")), read(memory=swap("0"))
    merge([below, above])
    assert swapped(below) == "8Gi"


def test_every_field_has_a_row_on_its_page() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/vgpuconfig.md").read_text()
    rows = set(re.findall(r"^\| `([A-Za-z.]+)` \|", page, re.MULTILINE))
    assert rows == set(leaves(VgpuConfig)) - {"apiVersion", "kind"}


def leaves(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The paths of all fields that hold no further ones."""
    for name, field in model.model_fields.items():
        here = f"{path}{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{here}.")
        else:
            yield here
