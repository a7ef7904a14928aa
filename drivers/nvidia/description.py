"""Turns what NVML says of a card into the model that all vendors share: units, steps, defaults, place."""

from __future__ import annotations

from pathlib import Path

from drivers.model import Capacity, Device, DeviceType, Enforcement, Range, Values
from drivers.nvidia.nvml import Card, Versions
from drivers.pci import is_listed, numa_node, pcie_root

VENDOR = "nvidia"
# The shim counts bytes; 1 MiB is the step in which people ask, and CUDA's small allocations fit into it.
MEMORY_STEP = 1024**2
CORES = Capacity(100, Range(minimum=0, maximum=100, step=1, default=0))


def describe(card: Card, *, name: str, versions: Versions, shares: int, sysfs: Path) -> Device:
    """Return the card as a device; `shares` is how many tenants it takes, `sysfs` where /sys is.

    The kernel's word on NUMA comes first; where it does not list the card, NVML's is taken.
    """
    listed = is_listed(card.pci_bus_id, sysfs=sysfs)
    return Device(
        name=name,
        vendor=VENDOR,
        type=DeviceType.GPU,
        uuid=card.uuid,
        index=card.index,
        model=card.model,
        memory=memory_capacity(card.memory_bytes),
        cores=CORES,
        # Each allocation takes one, whatever the claim says.
        shares=Capacity(shares, Values((1,), default=1)),
        architecture=card.architecture,
        driver_version=versions.driver,
        runtime_version=versions.cuda,
        memory_isolation=Enforcement.SOFT,
        compute_control=Enforcement.SOFT,
        pci_bus_id=card.pci_bus_id,
        pcie_root=pcie_root(card.pci_bus_id, sysfs=sysfs),
        numa_node=numa_node(card.pci_bus_id, sysfs=sysfs) if listed else card.numa_node,
    )


def memory_capacity(total: int) -> Capacity:
    """Return a card's memory in whole steps: any number of them, and all of it where a claim names none."""
    whole = total - total % MEMORY_STEP
    return Capacity(whole, Range(minimum=MEMORY_STEP, maximum=whole, step=MEMORY_STEP, default=whole))
