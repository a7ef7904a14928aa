"""NVIDIA's cards, shared in software: any number of tenants on one card, each held to its limits by the shim.

What it relies on: NVML for what the cards are and whether they answer; the NVIDIA Container Toolkit's CDI
spec for driver files and device nodes; our preloaded library for memory (1 MiB steps) and compute (percent).
Nothing is set up on the card itself, so there is nothing to undo there either.

A card in MIG mode has no whole to divide, and its partitions are another product: it is left out, and the log
says so. A known card that is switched to MIG is told as unhealthy, for the shares that are still on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from pathlib import Path

from drivers.backend import Notice
from drivers.errors import DeviceLost, DeviceNotFound, RuntimeNotReady, ShareRefused
from drivers.model import LOST, Device, Injection, Share
from drivers.nvidia.description import VENDOR, describe
from drivers.nvidia.kernel_log import KERNEL_LOG
from drivers.nvidia.naming import device_names
from drivers.nvidia.notices import Notices
from drivers.nvidia.nvml import Ailment, Card, Nvml, SilentCard
from drivers.nvidia.toolkit import Catalogue, Toolkit, device_id
from drivers.nvidia.watch import HealthWatch
from drivers.nvidia.xids import HARMLESS_XIDS

MIG_MODE = "in MIG mode, so it cannot be divided as a whole"


class NvidiaBackend:
    """All of this node's cards that are not in MIG mode."""

    def __init__(
        self,
        *,
        nvml: Nvml,
        toolkit: Toolkit,
        sysfs: Path,
        shares: int,
        harmless_xids: Set[int] = HARMLESS_XIDS,
        kernel_log: Path = KERNEL_LOG,
    ) -> None:
        """`sysfs`: where the kernel's /sys is; `shares`: how many tenants one card takes."""
        self._kernel_log = kernel_log
        self._harmless_xids = harmless_xids
        self._nvml = nvml
        self._toolkit = toolkit
        self._sysfs = sysfs
        self._shares = shares
        self._lock = threading.Lock()
        self._known: dict[str, Device] = {}
        self._notices = Notices()

    @property
    def vendor(self) -> str:
        """See DeviceBackend."""
        return VENDOR

    def discover(self) -> tuple[Device, ...]:
        """See DeviceBackend. Order: that of the PCI bus, as NVML numbers the cards."""
        with self._lock:
            answers = self._nvml.cards()
            catalogue = self._toolkit.catalogue()
            answering = self._told_now([a for a in answers if isinstance(a, Card)], catalogue)
            absent = [self._told_as_lost(uuid) for uuid in self._known.keys() - {d.uuid for d in answering}]
            devices = sorted([*answering, *absent], key=lambda device: (device.index, device.uuid))
            self._known = {device.uuid: device for device in devices}
            self._notices.tell(_unusable(devices, answers))
            return tuple(devices)

    def prepare(self, share: Share) -> Injection:
        """See DeviceBackend. Nothing is changed on the card: the shim enforces what the share says."""
        _check(share)
        uuid = share.device.uuid
        if self._nvml.is_in_mig_mode(uuid):
            raise ShareRefused(f"card {uuid}: {MIG_MODE}")
        if not self._toolkit.has(uuid):
            catalogue = self._toolkit.catalogue()
            if not catalogue.has(uuid):
                raise RuntimeNotReady(catalogue.absence(uuid))
        return Injection(
            vendor_cdi_devices=(device_id(uuid),),
            # A legacy runtime, which adds cards on its own, must add none.
            environment=(("NVIDIA_VISIBLE_DEVICES", "void"),),
            shim=True,
        )

    def unprepare(self, share_key: str, device_uuid: str) -> None:
        """See DeviceBackend. `prepare` left nothing on the card that would have to go."""

    def watch_health(self, tell: Callable[[Notice], None], stopped: Callable[[], bool]) -> None:
        """See WatchesHealth: XID errors, uncorrected memory errors, cards that are lost and come back."""
        watch = HealthWatch(self._nvml, harmless_xids=self._harmless_xids, kernel_log=self._kernel_log)
        watch.run(tell, stopped)

    def close(self) -> None:
        """See DeviceBackend. May be called again; a later question opens the library again."""
        self._nvml.close()

    def _told_now(self, cards: Sequence[Card], catalogue: Catalogue) -> list[Device]:
        """Describe the cards that answer and can be divided, or once were."""
        versions = self._nvml.versions()
        names = device_names({card.uuid for card in cards} | self._known.keys())
        described = [
            describe(card, name=names[card.uuid], versions=versions, shares=self._shares, sysfs=self._sysfs)
            for card in cards
            if not card.mig_enabled
        ]
        if described and not any(catalogue.has(device.uuid) for device in described):
            raise RuntimeNotReady(catalogue.absence(described[0].uuid))
        switched = [
            replace(self._known[card.uuid], unhealthy=MIG_MODE, unhealthy_code="mig-mode")
            for card in cards
            if card.mig_enabled and card.uuid in self._known
        ]
        ailments = {card.uuid: card.ailment for card in cards if card.ailment is not None}
        return [_with_health(device, catalogue, ailments.get(device.uuid)) for device in described] + switched

    def _told_as_lost(self, uuid: str) -> Device:
        try:
            self._nvml.card(uuid)
        except (DeviceLost, DeviceNotFound) as error:
            return replace(self._known[uuid], unhealthy=str(error), unhealthy_code=LOST)
        return replace(self._known[uuid], unhealthy="did not answer a moment ago", unhealthy_code=LOST)


def _with_health(device: Device, catalogue: Catalogue, ailment: Ailment | None) -> Device:
    if ailment is not None:
        return replace(device, unhealthy=ailment.reason, unhealthy_code=ailment.code)
    if not catalogue.has(device.uuid):
        return replace(device, unhealthy=catalogue.absence(device.uuid), unhealthy_code="no-cdi-device")
    return device


def _unusable(devices: Sequence[Device], answers: Iterable[Card | SilentCard]) -> dict[str, str]:
    """Return why which cards cannot be used, those that are not told as devices too."""
    reasons = {device.uuid: device.unhealthy for device in devices if device.unhealthy}
    explained = {device.index for device in devices if device.unhealthy}
    for answer in answers:
        if isinstance(answer, SilentCard):
            if answer.index not in explained:
                reasons[str(answer.index)] = answer.reason
        elif answer.mig_enabled:
            reasons[answer.uuid] = MIG_MODE
    return reasons


def _check(share: Share) -> None:
    """Refuse what the card cannot hold or the shim cannot enforce; names the field."""
    device = share.device
    if device.vendor != VENDOR:
        raise ShareRefused(f"device {device.name}: belongs to vendor {device.vendor}, not {VENDOR}")
    if not 0 < share.memory <= device.memory.value:
        raise ShareRefused(f"memory: {share.memory} bytes, where the card {device.name} has {device.memory.value}")
    if not 0 <= share.cores <= device.cores.value:
        raise ShareRefused(f"cores: {share.cores} percent, where the card has {device.cores.value}")
