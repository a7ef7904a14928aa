"""The simulated installation looks to a container runtime like the real one, and goes away whole."""

import json
import os
import stat
from pathlib import Path

import cards
import install
import pytest

from tests.simgpu import installation
from tests.simgpu.installation import Installation


def test_installing_twice_changes_nothing(machine: Installation) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in machine.root.rglob("*") if "cdi" not in path.parts and path.is_file()
    }
    install.install(machine.root, machine.root / "cdi", installation.LIBRARIES, None, fresh=False, plain=True)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_specification_names_each_card_by_index_and_uuid(machine: Installation) -> None:
    spec = json.loads((machine.root / "cdi" / "nvidia.json").read_text())
    names = [device["name"] for device in spec["devices"]]
    uuids = [card.uuid for card in machine.show().cards]
    assert spec["kind"] == "nvidia.com/gpu"
    assert names == ["0", uuids[0], "1", uuids[1], "all"]
    mounted = {mount["containerPath"] for mount in spec["containerEdits"]["mounts"]}
    assert "/run/simgpu/state" in mounted
    assert spec["devices"][3]["containerEdits"]["deviceNodes"][0]["path"] == "/dev/nvidia1"


def test_removal_leaves_nothing(machine: Installation) -> None:
    install.remove(machine.root, machine.root / "cdi")
    assert [path for path in machine.root.rglob("*") if path.is_file()] == []
    install.remove(machine.root, machine.root / "cdi")


@pytest.mark.skipif(os.geteuid() != 0, reason="making device nodes needs root")
def test_device_nodes_are_character_devices(tmp_path: Path) -> None:
    install.install(tmp_path / "root", tmp_path / "cdi", installation.LIBRARIES, None, fresh=True, plain=False)
    node = (tmp_path / "root" / "dev" / "nvidia1").stat()
    assert stat.S_ISCHR(node.st_mode)
    assert (os.major(node.st_rdev), os.minor(node.st_rdev)) == (195, 1)
    machine = Installation(tmp_path / "root")
    assert machine.run("nvml.nvmlInit()\nprint(nvml.nvmlDeviceGetCount())") == "2"


def test_a_card_file_describes_other_machines(tmp_path: Path) -> None:
    description = {
        "count": 4,
        "defaults": {"name": "NVIDIA Test 80GB", "memory": 80 << 30, "compute_capability": "9.0"},
    }
    (tmp_path / "cards.json").write_text(json.dumps(description))
    machine = installation.make(tmp_path / "machine", tmp_path / "cards.json")
    output = machine.run(
        "nvml.nvmlInit()\ncard = nvml.nvmlDeviceGetHandleByIndex(3)\n"
        "print(nvml.nvmlDeviceGetName(card), nvml.nvmlDeviceGetMemoryInfo(card).total >> 30)\n"
        "print(*nvml.nvmlDeviceGetCudaComputeCapability(card))"
    )
    assert output == "NVIDIA Test 80GB 80\n9 0"


def test_an_unknown_field_in_a_card_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cards.json").write_text('{"defaults": {"memroy": 1}}')
    with pytest.raises(ValueError, match="memroy"):
        cards.read_description(tmp_path / "cards.json")
