"""What has befallen the cards and is still held against them.

An XID error leaves no state on a card that could be asked for later, so it is remembered here: until the card is seen
to recover, or has been quiet for so long that new work may try it again. It survives a restart of the plugin, which
would otherwise be a way to get a broken card back; it does not survive a reboot, which resets the cards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from drivers.backend import Fault, Notice, Recovery
from drivers.files import write_whole
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


class FaultBook:
    """Faults by card. Safe to use from several threads."""

    def __init__(self, *, quiet_seconds: float, clock: Callable[[], float], folder: Path | None, boot_id: str) -> None:
        """`quiet_seconds`: after which a fault is over by itself; `folder`: where the book is kept, None: nowhere."""
        self._quiet = quiet_seconds
        self._clock = clock
        self._path = folder / FILE_NAME if folder is not None else None
        self._boot_id = boot_id
        self._lock = Lock()
        self._faults: dict[tuple[str, str], HeldFault] = {}
        self._down: set[str] = set()

    def load(self) -> None:
        """Read what an earlier process of this boot held against the cards; a file that cannot be read is none."""
        if self._path is None:
            return
        try:
            file = _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            log.error("fault_book_unreadable", path=str(self._path), error=str(error))
            return
        if file.boot_id == self._boot_id:
            with self._lock:
                self._faults = {(fault.device_uuid, fault.code): fault for fault in file.faults}

    def take(self, notice: Notice) -> None:
        """Hear of a fault, or that a card has recovered."""
        with self._lock:
            if isinstance(notice, Fault):
                self._hold(notice)
            else:
                self._forgive(notice)
            self._save()

    def judge(self, devices: Sequence[Device]) -> tuple[Device, ...]:
        """Tell the cards as the book sees them. What a card's own state says comes first."""
        with self._lock:
            self._forgive_what_was_reset(devices)
            self._forget_what_is_over()
            newest = {
                uuid: fault for (uuid, _), fault in sorted(self._faults.items(), key=lambda item: item[1].told_at)
            }
        return tuple(_judged(device, newest.get(device.uuid)) for device in devices)

    def _hold(self, fault: Fault) -> None:
        held = HeldFault(device_uuid=fault.device_uuid, code=fault.code, reason=fault.reason, told_at=self._clock())
        if (fault.device_uuid, fault.code) not in self._faults:
            log.error("card_fault", device_uuid=fault.device_uuid, code=fault.code, reason=fault.reason)
        self._faults[fault.device_uuid, fault.code] = held
        of_card = sorted((key for key in self._faults if key[0] == fault.device_uuid), key=self._told_at)
        for key in of_card[:-_REMEMBERED_PER_CARD]:
            del self._faults[key]

    def _told_at(self, key: tuple[str, str]) -> float:
        return self._faults[key].told_at

    def _forgive(self, recovery: Recovery) -> None:
        for key in [key for key in self._faults if key[0] == recovery.device_uuid]:
            del self._faults[key]
        log.info("card_recovered", device_uuid=recovery.device_uuid)

    def _forgive_what_was_reset(self, devices: Sequence[Device]) -> None:
        """Take a card for recovered that was lost, or in need of a reset, and is well now."""
        down = {device.uuid for device in devices if device.unhealthy_code in (LOST, NEEDS_RECOVERY)}
        up = {device.uuid for device in devices if not device.unhealthy}
        reset = self._down & up
        self._down = (self._down | down) - up
        if held := [uuid for uuid in sorted(reset) if any(key[0] == uuid for key in self._faults)]:
            for uuid in held:
                self._forgive(Recovery(uuid))
            self._save()

    def _forget_what_is_over(self) -> None:
        over = [key for key, fault in self._faults.items() if fault.told_at + self._quiet <= self._clock()]
        for key in over:
            fault = self._faults.pop(key)
            log.info("card_fault_over", device_uuid=fault.device_uuid, code=fault.code, quiet_seconds=self._quiet)
        if over:
            self._save()

    def _save(self) -> None:
        """Write the book. It is a convenience: where it cannot be written, the faults are held in memory."""
        if self._path is None:
            return
        try:
            content = _File(boot_id=self._boot_id, faults=tuple(self._faults.values())).model_dump_json()
            write_whole(self._path, content.encode(), mode=0o600)
        except OSError as error:
            log.error("fault_book_not_written", path=str(self._path), error=str(error))


def _judged(device: Device, fault: HeldFault | None) -> Device:
    if device.unhealthy or fault is None:
        return device
    return replace(device, unhealthy=fault.reason, unhealthy_code=fault.code)
