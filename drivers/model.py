"""The device model that every vendor shares: cards, what they can be divided into, and shares of them.

Values only: frozen, in base units (bytes, percent), with no way back to a library. The names are those of
the attributes and capacities that users see in ResourceSlices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class DeviceType(StrEnum):
    """What kind of accelerator, as users name it."""

    GPU = "gpu"
    DCU = "dcu"
    NPU = "npu"
    XPU = "xpu"


class Mode(StrEnum):
    """How a card is published: divisible by the scheduler, or cut into fixed exclusive slots."""

    SHARED = "shared"
    SLOT = "slot"


class Enforcement(StrEnum):
    """Who holds a share to its limit: the hardware or its driver, our library, nobody."""

    HARD = "hard"
    SOFT = "soft"
    NONE = "none"


class ComputePolicy(StrEnum):
    """What a share may do with compute beyond its cores."""

    FIXED = "fixed"
    BURST = "burst"
    SHARED = "shared"


class Priority(StrEnum):
    """Which of two shares goes first when both want the card."""

    HIGH = "high"
    LOW = "low"


@dataclass(frozen=True)
class Range:
    """Any multiple of `step` above `minimum`, up to `maximum`; a request is rounded up."""

    minimum: int
    maximum: int
    step: int
    default: int


@dataclass(frozen=True)
class Values:
    """One of a few sizes (at most 10), ascending; a request takes the smallest that holds it."""

    values: tuple[int, ...]
    default: int


@dataclass(frozen=True)
class Capacity:
    """One divisible quantity of a card. `value` and the policy are in the quantity's base unit."""

    value: int
    policy: Range | Values | None = None


@dataclass(frozen=True)
class Device:
    """One card as it is now.

    `name` is a DNS label that stays with the card across reboots and re-ordering (allocations refer to it).
    `memory` is in bytes, `cores` in percent of the card, `shares` in tenants. Versions are as the vendor
    spells them. `unhealthy` is empty, or the reason in words why the card must not get new work; the code that
    goes with it is one word of letters, digits and `-`, at most 63 (`lost`, `xid-79`).
    """

    name: str
    vendor: str
    type: DeviceType
    uuid: str
    index: int
    model: str
    memory: Capacity
    cores: Capacity
    shares: Capacity
    architecture: str = ""
    driver_version: str = ""
    runtime_version: str = ""
    mode: Mode = Mode.SHARED
    memory_isolation: Enforcement = Enforcement.NONE
    compute_control: Enforcement = Enforcement.NONE
    pci_bus_id: str = ""
    pcie_root: str = ""
    numa_node: int | None = None
    link_group: str = ""
    unhealthy: str = ""
    unhealthy_code: str = ""


# Codes of `unhealthy_code` after which a card that is well again was reset: what befell it before is over.
LOST = "lost"
NEEDS_RECOVERY = "needs-recovery"


@dataclass(frozen=True)
class ShareSettings:
    """What the user may choose about a share beyond its size.

    `host_memory`: bytes of the host's memory that the share may use when its part of the card is full.
    """

    compute_policy: ComputePolicy = ComputePolicy.FIXED
    priority: Priority = Priority.LOW
    host_memory: int = 0
    log_level: str = "off"


@dataclass(frozen=True)
class Share:
    """What one allocation result grants on one card.

    `memory` in bytes; `cores` in percent, 0 meaning no reservation and no cap.
    """

    key: str
    device: Device
    memory: int
    cores: int
    settings: ShareSettings = field(default_factory=ShareSettings)


@dataclass(frozen=True)
class Mount:
    """A bind mount from the host into the container."""

    host_path: str
    container_path: str
    read_only: bool = True


@dataclass(frozen=True)
class DeviceNode:
    """A device node that the container may use."""

    path: str
    host_path: str = ""


@dataclass(frozen=True)
class Injection:
    """What a container needs to use a share, beside the share's own directory.

    `vendor_cdi_devices` are ids of CDI devices that the vendor's own tools define on this node.
    `shim` asks for the preloaded library and the share directory, where limits are enforced by software.
    """

    vendor_cdi_devices: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    shim: bool = False
