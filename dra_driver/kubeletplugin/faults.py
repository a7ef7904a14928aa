"""What has befallen the cards and is still held against them.

An XID error leaves no state on a card that could be asked for later, so it is remembered here: until the card is seen
to recover, or has been quiet for so long that new work may try it again. It survives a restart of the plugin, which
would otherwise be a way to get a broken card back; it does not survive a reboot, which resets the cards. Two plugins
that live side by side during an update keep one book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

import structlog
from pydantic import BaseModel, ConfigDict

from dra_driver.kubeletplugin.joint_file import JointFile
from drivers.backend import Fault, Notice, Recovery
from drivers.model import LOST, NEEDS_RECOVERY, Device

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FILE_NAME = "faults.json"
_REMEMBERED_PER_CARD = 8


class HeldFault(BaseModel):
    """A fault and when it was last told, in seconds since the epoch."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    device_uuid: str
    code: str
    reason: str
    told_at: float


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    boot_id: str
    faults: tuple[HeldFault, ...]
    forgiven: dict[str, float] = {}


class FaultBook:
    """Faults by card. Safe to use from several threads."""

    def __init__(self, *, quiet_seconds: float, clock: Callable[[], float], folder: Path | None, boot_id: str) -> None:
        """`quiet_seconds`: after which a fault is over by itself; `folder`: where the book is kept, None: nowhere."""
        self._quiet = quiet_seconds
        self._clock = clock
        self._file = JointFile(folder / FILE_NAME if folder is not None else None, _File)
        self._boot_id = boot_id
        self._lock = Lock()
        self._faults: dict[tuple[str, str], HeldFault] = {}
        # Since when a card is known to have recovered: what befell it before may be told again, and is over.
        self._forgiven: dict[str, float] = {}
        self._down: set[str] = set()

    def load(self) -> None:
        """Read what an earlier process of this boot held against the cards; a file that cannot be read is none."""
        with self._lock:
            self._read()

    def take(self, notice: Notice) -> bool:
        """Hear of a fault, or that a card has recovered; tells whether that is news."""
        with self._changing():
            if isinstance(notice, Fault):
                return self._hold(notice)
            self._forgive(notice)
            return True

    def judge(self, devices: Sequence[Device]) -> tuple[Device, ...]:
        """Tell the cards as the book sees them. What a card's own state says comes first."""
        with self._lock:
            self._read()
            reset = self._reset(devices)
            due = bool(reset or self._over() or self._file.behind)
        if due:
            with self._changing():
                for uuid in reset:
                    self._forgive(Recovery(uuid))
                self._forget_what_is_over()
        with self._lock:
            newest = {
                uuid: fault for (uuid, _), fault in sorted(self._faults.items(), key=lambda item: item[1].told_at)
            }
        return tuple(_judged(device, newest.get(device.uuid)) for device in devices)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the book as it is now, whoever has written it."""
        with self._lock, self._file.changing():
            self._read()
            before = (dict(self._faults), dict(self._forgiven))
            yield
            if (self._faults, self._forgiven) != before or self._file.behind:
                faults = tuple(self._faults.values())
                self._file.write(_File(boot_id=self._boot_id, faults=faults, forgiven=self._forgiven))

    def _read(self) -> None:
        file = self._file.news()
        if file is not None and file.boot_id == self._boot_id:
            self._faults = {(fault.device_uuid, fault.code): fault for fault in file.faults}
            self._forgiven = dict(file.forgiven)

    def _hold(self, fault: Fault) -> bool:
        told_at = self._clock() - fault.seconds_ago
        key = (fault.device_uuid, fault.code)
        if fault.seconds_ago and self._is_old(key, told_at):
            return False
        if key not in self._faults:
            log.error("card_fault", device_uuid=fault.device_uuid, code=fault.code, reason=fault.reason)
        self._faults[key] = HeldFault(
            device_uuid=fault.device_uuid, code=fault.code, reason=fault.reason, told_at=told_at
        )
        of_card = sorted((known for known in self._faults if known[0] == fault.device_uuid), key=self._told_at)
        for oldest in of_card[:-_REMEMBERED_PER_CARD]:
            del self._faults[oldest]
        return True

    def _is_old(self, key: tuple[str, str], told_at: float) -> bool:
        """Tell whether a fault of the past is known, over, or from before the card recovered."""
        known = key in self._faults and self._told_at(key) >= told_at
        return known or told_at + self._quiet <= self._clock() or told_at < self._forgiven.get(key[0], 0.0)

    def _told_at(self, key: tuple[str, str]) -> float:
        return self._faults[key].told_at

    def _forgive(self, recovery: Recovery) -> None:
        for key in [key for key in self._faults if key[0] == recovery.device_uuid]:
            del self._faults[key]
        self._forgiven[recovery.device_uuid] = self._clock()
        log.info("card_recovered", device_uuid=recovery.device_uuid)

    def _reset(self, devices: Sequence[Device]) -> list[str]:
        """List the cards with faults that were lost, or in need of a reset, and are well now."""
        down = {device.uuid for device in devices if device.unhealthy_code in (LOST, NEEDS_RECOVERY)}
        up = {device.uuid for device in devices if not device.unhealthy}
        reset = self._down & up
        self._down = (self._down | down) - up
        return sorted(reset & {uuid for uuid, _ in self._faults})

    def _over(self) -> list[tuple[str, str]]:
        return [key for key, fault in self._faults.items() if fault.told_at + self._quiet <= self._clock()]

    def _forget_what_is_over(self) -> None:
        for key in self._over():
            fault = self._faults.pop(key)
            log.info("card_fault_over", device_uuid=fault.device_uuid, code=fault.code, quiet_seconds=self._quiet)


def _judged(device: Device, fault: HeldFault | None) -> Device:
    if device.unhealthy or fault is None:
        return device
    return replace(device, unhealthy=fault.reason, unhealthy_code=fault.code)
