"""HAMi's own device configuration: other names and defaults, and clear words where it makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from dra_driver.errors import SettingsRejected
from dra_driver.migration.claiming import Context
from dra_driver.migration.conventions import DEFAULT
from dra_driver.migration.device_config import conventions_of, read_device_config
from dra_driver.migration.pods import migrate
from tests.unit.migration.pods_for_hami import amounts, conditions, container, migrated, pod, requests_of

RENAMED = """
nvidia:
  resourceCountName: example.com/vgpu
  resourceMemoryName: example.com/vgpu-gib
  memoryFactor: 1024
  defaultMemory: 4
  defaultCores: 10
  unknownToUs: true
cambricon:
  resourceCountName: cambricon.com/vmlu
vnpus:
  configs:
  - chipName: 910B9
    commonWord: Ascend910B9
    resourceName: huawei.com/Ascend910B9
    resourceMemoryName: huawei.com/Ascend910B9-memory
    templates: [{name: vir01, memory: 1000, aiCore: 1}]
"""


def test_an_empty_configuration_is_the_default() -> None:
    assert conventions_of({"nvidia": None}, "device configuration") == DEFAULT


def test_names_and_defaults_are_those_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "device-config.yaml"
    path.write_text(RENAMED)
    context = Context(conventions=read_device_config(path))
    (asked,) = requests_of(migrated(pod(container(**{"example.com/vgpu": 1, "example.com/vgpu-gib": 2})), context))
    assert amounts(asked) == {"memory": "2Gi", "cores": "10"}
    (default,) = requests_of(migrated(pod(container(**{"example.com/vgpu": 1})), context))
    assert amounts(default) == {"memory": "4Gi", "cores": "10"}
    (chip,) = requests_of(migrated(pod(container(huawei_Ascend910B9=1, huawei_Ascend910B9_memory=1001)), context))
    assert amounts(chip) == {"cores": "100"}
    assert conditions(chip) == ['device.attributes["vgpu.hami.io"].model in ["910B9", "Ascend910B9"]']
    assert migrate(pod(container(nvidia_gpu=1)), context, subject="Pod team/train") is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("nvidia: {memoryFactor: 0}", "nvidia.memoryFactor: Input should be greater than or equal to 1"),
        ("nvidia: {defaultCores: lots}", "nvidia.defaultCores: Input should be a valid integer"),
        ("vnpus: {configs: [{chipName: x}]}", "vnpus.configs.0.commonWord: Field required"),
        ("nvidia: [", "while parsing"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_with_the_field(
    tmp_path: Path, content: str, problem: str
) -> None:
    path = tmp_path / "device-config.yaml"
    path.write_text(content)
    with pytest.raises(SettingsRejected, match=problem):
        read_device_config(path)


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsRejected, match=r"device configuration .*No such file"):
        read_device_config(tmp_path / "none.yaml")
