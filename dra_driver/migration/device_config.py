"""Reads HAMi's own device configuration, so that an installation with other names and defaults migrates as it is.

It is the content of `device-config.yaml` in the ConfigMap of HAMi's scheduler. What has no bearing on what a pod means
is left unread.
Source: github.com/Project-HAMi/HAMi 4707fb0, charts/hami/templates/scheduler/device-configmap.yaml.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from dra_driver.errors import SettingsRejected
from dra_driver.migration.conventions import ASCEND, HYGON, KUNLUNXIN, NVIDIA, VOLCANO, Convention, ascend


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class _Nvidia(_Section):
    resource_count_name: str = NVIDIA.count
    resource_memory_name: str = NVIDIA.memory
    resource_memory_percentage_name: str = NVIDIA.percentage
    resource_core_name: str = NVIDIA.cores
    resource_priority_name: str = NVIDIA.priority
    default_memory: int = Field(default=0, ge=0)
    default_cores: int = Field(default=0, ge=0, le=100)
    default_GPU_num: int = Field(default=1, ge=0, alias="defaultGPUNum")
    memory_factor: int = Field(default=1, ge=1)


class _Hygon(_Section):
    resource_count_name: str = HYGON.count
    resource_memory_name: str = HYGON.memory
    resource_core_name: str = HYGON.cores
    memory_factor: int = Field(default=1, ge=1)


class _Kunlun(_Section):
    resource_count_name: str = KUNLUNXIN[0].count
    resource_v_count_name: str = Field(default=KUNLUNXIN[1].count, alias="resourceVCountName")
    resource_v_memory_name: str = Field(default=KUNLUNXIN[1].memory, alias="resourceVMemoryName")


class _Template(_Section):
    memory: int = Field(ge=1)


class _Chip(_Section):
    chip_name: str
    common_word: str
    resource_name: str
    resource_memory_name: str
    resource_core_name: str = ""
    memory_factor: int = Field(default=1, ge=1)
    templates: tuple[_Template, ...] = ()


class _Chips(_Section):
    configs: tuple[_Chip, ...] = ()


class _DeviceConfig(_Section):
    nvidia: _Nvidia = _Nvidia()
    hygon: _Hygon = _Hygon()
    kunlun: _Kunlun = _Kunlun()
    vnpus: _Chips | None = None


def read_device_config(path: Path) -> tuple[Convention, ...]:
    """Read the file. Raises SettingsRejected with the field."""
    # Only where there is such a file.
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsRejected(f"device configuration {path}: {error}") from error
    return conventions_of(content if isinstance(content, dict) else {}, f"device configuration {path}")


def conventions_of(content: Mapping[str, Any], subject: str) -> tuple[Convention, ...]:
    """Make the conventions that a device configuration describes. Raises SettingsRejected with the field."""
    try:
        # A section without content is one that is not there.
        config = _DeviceConfig.model_validate({name: part for name, part in content.items() if part is not None})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise SettingsRejected(f"{subject}: {field}: {first['msg']}") from error
    chips = ASCEND if config.vnpus is None else tuple(_chip(chip) for chip in config.vnpus.configs)
    return (_nvidia(config.nvidia), VOLCANO, _hygon(config.hygon), *chips, *_kunlun(config.kunlun))


def _nvidia(section: _Nvidia) -> Convention:
    return dataclasses.replace(
        NVIDIA,
        count=section.resource_count_name,
        memory=section.resource_memory_name,
        percentage=section.resource_memory_percentage_name,
        cores=section.resource_core_name,
        priority=section.resource_priority_name,
        implied_count=section.default_GPU_num,
        default_memory=section.default_memory,
        default_cores=section.default_cores,
        memory_factor=section.memory_factor,
    )


def _hygon(section: _Hygon) -> Convention:
    return dataclasses.replace(
        HYGON,
        count=section.resource_count_name,
        memory=section.resource_memory_name,
        cores=section.resource_core_name,
        memory_factor=section.memory_factor,
    )


def _kunlun(section: _Kunlun) -> tuple[Convention, ...]:
    whole, part = KUNLUNXIN
    return (
        dataclasses.replace(whole, count=section.resource_count_name),
        dataclasses.replace(part, count=section.resource_v_count_name, memory=section.resource_v_memory_name),
    )


def _chip(chip: _Chip) -> Convention:
    largest = max((template.memory for template in chip.templates), default=0)
    convention = ascend(chip.common_word, chip.chip_name, largest_part=largest, memory_factor=chip.memory_factor)
    return dataclasses.replace(
        convention, count=chip.resource_name, memory=chip.resource_memory_name, cores=chip.resource_core_name
    )
