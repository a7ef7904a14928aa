"""Where a card sits, read from a sysfs that we lay out as the kernel does."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.pci import is_listed, kernel_bus_id, numa_node, pcie_root


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A card behind a bridge, on NUMA node 1."""
    card = tmp_path / "devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0"
    card.mkdir(parents=True)
    (card / "numa_node").write_text("1\n")
    (tmp_path / "bus/pci/devices").mkdir(parents=True)
    (tmp_path / "bus/pci/devices/0000:3b:00.0").symlink_to(card)
    return tmp_path


@pytest.mark.parametrize(
    ("spelled", "kernel"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0000:3b:00.0", "0000:3b:00.0"),
        ("00010000:01:1F.7", "10000:01:1f.7"),
        ("", ""),
        ("../../etc", ""),
        ("3b:00.0", ""),
    ],
)
def test_address_is_spelled_as_the_kernel_does(spelled: str, kernel: str) -> None:
    assert kernel_bus_id(spelled) == kernel


def test_root_is_the_complex_above_all_bridges(sysfs: Path) -> None:
    assert pcie_root("0000:3b:00.0", sysfs=sysfs) == "pci0000:3a"


def test_numa_node_is_the_kernels(sysfs: Path) -> None:
    assert numa_node("0000:3b:00.0", sysfs=sysfs) == 1


@pytest.mark.parametrize("content", ["-1\n", "", "x"])
def test_numa_node_that_the_kernel_does_not_know_is_none(sysfs: Path, content: str) -> None:
    (sysfs / "bus/pci/devices/0000:3b:00.0/numa_node").write_text(content)
    assert numa_node("0000:3b:00.0", sysfs=sysfs) is None


@pytest.mark.parametrize("bus_id", ["", "0000:99:00.0"])
def test_card_that_is_not_listed_has_neither_root_nor_node(sysfs: Path, bus_id: str) -> None:
    assert not is_listed(bus_id, sysfs=sysfs)
    assert pcie_root(bus_id, sysfs=sysfs) == ""
    assert numa_node(bus_id, sysfs=sysfs) is None
