"""Hears what NVML reports by itself: XID errors and memory errors that could not be corrected.

Source: the NVML API reference, event handling (nvmlEventSet*, nvmlDeviceRegisterEvents).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import pynvml

from drivers.errors import DeviceLost, DeviceNotFound
from drivers.nvidia.nvml import Nvml


class Kind(Enum):
    """What an event is about."""

    XID = pynvml.nvmlEventTypeXidCriticalError
    UNCORRECTED = pynvml.nvmlEventTypeDoubleBitEccError


WANTED = sum(kind.value for kind in Kind)


@dataclass(frozen=True)
class Event:
    """One report of the driver. `number` is the XID where it is one."""

    device_uuid: str
    kind: Kind
    number: int


class EventSet:
    """Events of some cards. To be used by one thread."""

    def __init__(self, nvml: Nvml, uuids: Iterable[str]) -> None:
        """Register the cards; one that does not answer, or reports nothing by itself, is left out.

        Raises:
            BackendUnavailable: the library or the driver does not answer.
        """
        self._nvml = nvml
        self._uuids: dict[int | None, str] = {}
        with nvml.asking("event set"):
            self._set = pynvml.nvmlEventSetCreate()
        for uuid in uuids:
            with contextlib.suppress(DeviceLost, DeviceNotFound), nvml.asking(f"card {uuid}", otherwise=DeviceLost):
                self._register(uuid)

    def wait(self, milliseconds: int) -> Event | None:
        """Wait for the next event; None when there was none in that time.

        Raises:
            DeviceLost: a card of the set is gone: make a new set.
            BackendUnavailable: the library or the driver does not answer.
        """
        with self._nvml.asking("events", otherwise=DeviceLost):
            try:
                raw = pynvml.nvmlEventSetWait_v2(self._set, milliseconds)
            except pynvml.NVMLError_Timeout:
                return None
        kind = next((kind for kind in Kind if kind.value == raw.eventType), None)
        uuid = self._uuids.get(_address(raw.device))
        return Event(uuid, kind, int(raw.eventData)) if kind is not None and uuid is not None else None

    def pending(self) -> Iterator[Event]:
        """Yield what has been reported already."""
        while (event := self.wait(0)) is not None:
            yield event

    def free(self) -> None:
        """Let go of the set."""
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlEventSetFree(self._set)

    def _register(self, uuid: str) -> None:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        types = int(pynvml.nvmlDeviceGetSupportedEventTypes(handle)) & WANTED
        if types:
            pynvml.nvmlDeviceRegisterEvents(handle, types, self._set)
            self._uuids[_address(handle)] = uuid


def _address(handle: object) -> int | None:
    """NVML hands out one pointer per card; it is all that an event says of its card."""
    return ctypes.cast(handle, ctypes.c_void_p).value  # type: ignore[arg-type]
