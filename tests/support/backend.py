"""A vendor in memory: cards of a given size, what is prepared on them, and faults on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from drivers.backend import Notice
from drivers.errors import DriverError
from drivers.model import Capacity, Device, DeviceType, Enforcement, Injection, Range, Share, Values

MIB = 1 << 20
GIB = 1 << 30


def card(index: int = 0, *, memory: int = 16 * GIB, shares: int = 10, unhealthy: str = "", model: str = "") -> Device:
    """A card as the NVIDIA backend would tell it."""
    return Device(
        name=f"gpu-{index}",
        vendor="nvidia",
        type=DeviceType.GPU,
        uuid=f"GPU-00000000-0000-0000-0000-{index:012d}",
        index=index,
        model=model or "Simulated 16GB",
        memory=Capacity(memory, Range(MIB, memory, MIB, memory)),
        cores=Capacity(100, Range(0, 100, 1, 0)),
        shares=Capacity(shares, Values((1,), 1)),
        architecture="Ampere",
        driver_version="580.65.06",
        runtime_version="13.0",
        memory_isolation=Enforcement.SOFT,
        compute_control=Enforcement.SOFT,
        pci_bus_id=f"0000:{index:02x}:00.0",
        unhealthy=unhealthy,
    )


def cards(number: int, *, unhealthy: str = "") -> tuple[Device, ...]:
    """Several cards of 16 GiB."""
    return tuple(card(index, unhealthy=unhealthy) for index in range(number))


class MemoryBackend:
    """Behaves as a DeviceBackend must; `on_prepare` and `on_unprepare` let a test fail or hold a call."""

    vendor = "nvidia"

    def __init__(self, *devices: Device) -> None:
        self.devices: tuple[Device, ...] = devices
        self.prepared: dict[str, Share] = {}
        self.prepare_calls: list[str] = []
        self.on_prepare: Callable[[Share], None] = lambda _share: None
        self.on_unprepare: Callable[[str], None] = lambda _key: None
        self.unavailable: DriverError | None = None

    def discover(self) -> tuple[Device, ...]:
        """See DeviceBackend."""
        if self.unavailable is not None:
            raise self.unavailable
        return self.devices

    def prepare(self, share: Share) -> Injection:
        """See DeviceBackend."""
        self.prepare_calls.append(share.key)
        self.on_prepare(share)
        self.prepared[share.key] = share
        return Injection(
            vendor_cdi_devices=(f"nvidia.com/gpu={share.device.uuid}",),
            environment=(("NVIDIA_VISIBLE_DEVICES", "void"),),
            shim=True,
        )

    def unprepare(self, share_key: str, device_uuid: str) -> None:
        """See DeviceBackend."""
        self.on_unprepare(share_key)
        self.prepared.pop(share_key, None)

    def close(self) -> None:
        """See DeviceBackend."""


class Gate:
    """Holds calls of a backend until a test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def hold(self, _share: Share) -> None:
        """What to set as `on_prepare`."""
        self.reached.set()
        if not self._open.wait(timeout=60):
            raise TimeoutError("no test has opened the gate")

    def open(self) -> None:
        """Let everybody pass."""
        self._open.set()


class WatchedBackend(MemoryBackend):
    """One that hears of faults by itself."""

    def __init__(self, *devices: Device) -> None:
        super().__init__(*devices)
        self.watched = threading.Event()
        self.fail_watch: Exception | None = None
        self._tell: Callable[[Notice], None] = lambda _notice: None

    def watch_health(self, tell: Callable[[Notice], None], stopped: Callable[[], bool]) -> None:
        """See WatchesHealth."""
        if self.fail_watch is not None:
            error, self.fail_watch = self.fail_watch, None
            raise error
        self._tell = tell
        self.watched.set()
        while not stopped():
            time.sleep(0.02)
        self.watched.clear()

    def hear(self, notice: Notice) -> None:
        """Let the vendor report something. The watch must have begun."""
        assert self.watched.wait(timeout=30)
        self._tell(notice)
