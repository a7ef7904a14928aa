"""VgpuConfig: strict when it is read, and merged field by field."""

from __future__ import annotations

from typing import Any

import pytest

from dra_driver.api.vgpuconfig import Source, VgpuConfig, decode, merge
from dra_driver.errors import ConfigRejected
from tests.support.claims import vgpu_config

SOURCE = Source("ResourceClaim team-a/train", "config[0].opaque.parameters")


def read(**fields: Any) -> VgpuConfig:
    return decode(vgpu_config(**fields), SOURCE)


def test_defaults_hold_where_nothing_is_said() -> None:
    config = read()
    assert (config.compute_policy, config.priority, config.memory.oversubscribe, config.log_level) == (
        "fixed",
        "low",
        False,
        "off",
    )


def test_every_field_is_read() -> None:
    config = read(computePolicy="burst", priority="high", memory={"oversubscribe": True}, logLevel="debug")
    assert (config.compute_policy, config.priority, config.memory.oversubscribe, config.log_level) == (
        "burst",
        "high",
        True,
        "debug",
    )


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"computPolicy": "fixed"}, "computPolicy", "unknown field .*computePolicy"),
        ({"compute_policy": "fixed"}, "compute_policy", "unknown field"),
        ({"memory": {"oversubscibe": True}}, "memory.oversubscibe", "unknown field .known here: oversubscribe"),
        ({"memory": {"oversubscribe": "yes"}}, "memory.oversubscribe", "'yes'"),
        ({"memory": {"oversubscribe": 1}}, "memory.oversubscribe", "bool"),
        ({"memory": None}, "memory", "MemoryConfig"),
        ({"memory": []}, "memory", "MemoryConfig"),
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


def test_nested_fields_are_laid_over_each_other() -> None:
    assert merge([read(memory={"oversubscribe": True}), read(memory={})]).memory.oversubscribe is True
    assert merge([read(memory={"oversubscribe": True}), read()]).memory.oversubscribe is True
    assert merge([read(memory={}), read(memory={"oversubscribe": True})]).memory.oversubscribe is True
    later = merge([read(memory={"oversubscribe": True}), read(memory={"oversubscribe": False})])
    assert later.memory.oversubscribe is False


def test_no_config_at_all_is_the_default() -> None:
    assert merge([]) == read()


def test_merging_leaves_what_is_merged_as_it_was() -> None:
    below, above = read(memory={"oversubscribe": True}), read(memory={"oversubscribe": False})
    merge([below, above])
    assert below.memory.oversubscribe is True
