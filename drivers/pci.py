"""Reads from sysfs where a card sits on the PCI bus, so that claims can ask for cards near each other.

Virtual machines and simulated cards have no such entry: what is unknown is left out, and breaks nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

SYSFS = Path("/sys")
BUS_ID = re.compile(r"^([0-9a-f]{1,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$")
ROOT = re.compile(r"^pci[0-9a-f]{4,8}:[0-9a-f]{2}$")


def kernel_bus_id(spelled: str) -> str:
    """Return an address as the kernel spells it, `0000:3b:00.0`; empty for what is not an address.

    Vendors write capitals, and eight digits for the domain where the kernel writes four.
    """
    matched = BUS_ID.match(spelled.strip().lower())
    if matched is None:
        return ""
    domain, bus, slot, function = matched.groups()
    return f"{int(domain, 16):04x}:{bus}:{slot}.{function}"


def is_listed(bus_id: str, *, sysfs: Path) -> bool:
    """Tell whether the kernel knows a card at this address."""
    return bool(bus_id) and _entry(bus_id, sysfs).is_dir()


def pcie_root(bus_id: str, *, sysfs: Path) -> str:
    """Return the root complex above the card, `pci0000:3a`; empty where it is unknown.

    Source: the first `pci<domain>:<bus>` component of the path that the entry in /sys/bus/pci links to, as
    the standard attribute resource.kubernetes.io/pcieRoot wants it.
    """
    if not is_listed(bus_id, sysfs=sysfs):
        return ""
    parts = _entry(bus_id, sysfs).resolve().parts
    return next((part for part in parts if ROOT.match(part)), "")


def numa_node(bus_id: str, *, sysfs: Path) -> int | None:
    """Return the NUMA node that the card is attached to; None where the kernel knows none (it writes -1)."""
    if not bus_id:
        return None
    try:
        node = int((_entry(bus_id, sysfs) / "numa_node").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _entry(bus_id: str, sysfs: Path) -> Path:
    return sysfs / "bus/pci/devices" / bus_id
