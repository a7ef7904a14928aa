"""Card descriptions: what a test or a demo wants to have in the machine.

A description is a JSON object; everything has a default, so `{}` gives two cards of 16 GiB:

    {"driver_version": "...", "cuda_version": 13050, "nvml_version": "...", "foreign_pids": false, "linger_ns": 0,
     "event_percent": 100, "count": 2, "defaults": {card fields}, "cards": [{card fields}, ...]}

`count` is used when `cards` is absent; each card takes `defaults`, then its own fields. The fields
are those of CardDescription; a field that does not exist is an error.
"""

import dataclasses
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GIB = 1 << 30
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class CardDescription:
    """One card: bytes, MHz, milliwatts. `pci_bus_id` is "dddd:bb:ss.f"; `link_group` 0 means no NVLink."""

    name: str = "NVIDIA Simulated 16GB"
    uuid: str = ""
    serial: str = ""
    memory: int = 16 * GIB
    context_bytes: int = 300 * MIB
    module_bytes: int = 2 * MIB
    minor: int = -1
    pci_bus_id: str = ""
    pci_device_id: int = 0x20B010DE
    pci_subsystem_id: int = 0x134F10DE
    compute_capability: str = "8.0"
    architecture: int = 7
    brand: int = 14
    numa_node: int = 0
    multiprocessors: int = 108
    sm_clock: int = 1410
    memory_clock: int = 1215
    power_limit: int = 250_000
    link_group: int = 0
    pool_chunk: int = 0
    lazy_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class MachineDescription:
    """The cards of a machine and the versions of its driver."""

    cards: tuple[CardDescription, ...]
    driver_version: str = "590.44.01"
    nvml_version: str = "13.590.44.01"
    cuda_version: int = 13050
    foreign_pids: bool = False
    linger_ns: int = 0
    event_percent: int = 100


def read_description(path: Path | None) -> MachineDescription:
    """The description in a file, or the default one. ValueError names what is wrong in it."""
    raw = json.loads(path.read_text()) if path else {}
    try:
        return describe(raw)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error


def describe(raw: Mapping[str, Any]) -> MachineDescription:
    """The description in a parsed JSON object. TypeError for an unknown field, ValueError for a bad one."""
    defaults = raw.get("defaults", {})
    listed = raw.get("cards", [{}] * raw.get("count", 2))
    if not 0 <= len(listed) <= 16:
        raise ValueError("a machine has at most 16 cards")
    cards = tuple(_complete(CardDescription(**{**defaults, **card}), index) for index, card in enumerate(listed))
    for field in ("uuid", "minor", "pci_bus_id"):
        if len({getattr(card, field) for card in cards}) != len(cards):
            raise ValueError(f"two cards have the same {field}")
    rest = {key: value for key, value in raw.items() if key not in ("defaults", "cards", "count")}
    return MachineDescription(cards=cards, **rest)


def _complete(card: CardDescription, index: int) -> CardDescription:
    return dataclasses.replace(
        card,
        uuid=card.uuid or f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'simgpu card {index}')}",
        serial=card.serial or f"15648200{index:05d}",
        minor=index if card.minor < 0 else card.minor,
        pci_bus_id=card.pci_bus_id or f"0000:{0x10 + index:02x}:00.0",
    )
