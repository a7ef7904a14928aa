"""The simulated runtime brings cards to those containers that ask for them in the environment, as the vendor's does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import container_runtime
import pytest
from container_runtime import CannotInject, inject

from tests.simgpu.installation import Installation

Wire = dict[str, Any]


@pytest.fixture
def specification(machine: Installation) -> Wire:
    found: Wire = json.loads((machine.root / "cdi" / "nvidia.json").read_text())
    return found


def bundle_of(*environment: str) -> Wire:
    """A configuration as containerd writes it: the first rule denies all devices."""
    denied = {"allow": False, "access": "rwm"}
    return {"process": {"env": list(environment)}, "mounts": [], "linux": {"resources": {"devices": [denied]}}}


def nodes_of(config: Wire) -> list[str]:
    return [node["path"] for node in config["linux"].get("devices", ())]


def libraries_of(config: Wire) -> set[str]:
    return {Path(mount["destination"]).name for mount in config["mounts"]} - {"state"}


@pytest.mark.parametrize("environment", [(), ("NVIDIA_VISIBLE_DEVICES=",), ("NVIDIA_VISIBLE_DEVICES=void",)])
def test_a_container_that_asks_for_nothing_stays_as_it_is(specification: Wire, environment: tuple[str, ...]) -> None:
    config = bundle_of(*environment)
    assert inject(config, specification) is config


def test_all_brings_every_card_and_the_cgroup_s_leave(specification: Wire) -> None:
    edited = inject(bundle_of("NVIDIA_VISIBLE_DEVICES=all"), specification)
    named = {Path(node).name for node in nodes_of(edited)}
    assert named == {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia0", "nvidia1"}
    denied, *allowed = edited["linux"]["resources"]["devices"]
    assert denied["allow"] is False
    assert [(rule["allow"], rule["access"]) for rule in allowed] == [(True, "rw")] * 5


def test_none_brings_the_driver_without_a_card(specification: Wire) -> None:
    edited = inject(bundle_of("NVIDIA_VISIBLE_DEVICES=none"), specification)
    assert "/dev/nvidiactl" in nodes_of(edited)
    assert not {"/dev/nvidia0", "/dev/nvidia1"} & set(nodes_of(edited))


def test_the_last_word_counts_and_may_be_an_index(specification: Wire) -> None:
    edited = inject(bundle_of("NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=1"), specification)
    (card,) = specification["devices"][2]["containerEdits"]["deviceNodes"]
    assert nodes_of(edited)[-1] == card["path"]


@pytest.mark.parametrize(
    ("capabilities", "libraries"),
    [
        ("utility", {"libnvidia-ml.so.1"}),
        ("compute", {"libcuda.so.1"}),
        ("", {"libcuda.so.1", "libnvidia-ml.so.1"}),
        ("all", {"libcuda.so.1", "libnvidia-ml.so.1"}),
    ],
)
def test_only_libraries_of_the_asked_capabilities_come(
    specification: Wire, capabilities: str, libraries: set[str]
) -> None:
    words = ("NVIDIA_VISIBLE_DEVICES=all", f"NVIDIA_DRIVER_CAPABILITIES={capabilities}")
    assert libraries_of(inject(bundle_of(*words), specification)) == libraries


def test_a_card_that_is_not_there_is_refused_by_name(specification: Wire) -> None:
    with pytest.raises(CannotInject, match="no card 7"):
        inject(bundle_of("NVIDIA_VISIBLE_DEVICES=7"), specification)


def run(machine: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program with a runtime behind it that tells its arguments."""
    specification = machine.root / "cdi" / "nvidia.json"
    program = (sys.executable, "-IS", container_runtime.__file__, "--specification", str(specification))
    command = (*program, "--runtime", "/bin/echo", "--", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_creation_edits_the_bundle_and_passes_everything_on(machine: Installation, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(bundle_of("NVIDIA_VISIBLE_DEVICES=all")))
    done = run(machine, "--root", "/run/r", "create", "--bundle", str(tmp_path), "one")
    assert done.stdout == f"--root /run/r create --bundle {tmp_path} one\n"
    assert "/dev/nvidia0" in nodes_of(json.loads((tmp_path / "config.json").read_text()))
    assert run(machine, "delete", "one").stdout == "delete one\n"


def test_an_error_is_where_containerd_looks_for_it(machine: Installation, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(bundle_of("NVIDIA_VISIBLE_DEVICES=gone")))
    done = run(machine, "--log", str(tmp_path / "log"), "create", "--bundle", str(tmp_path), "one")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no card gone" in json.loads((tmp_path / "log").read_text())["msg"]
