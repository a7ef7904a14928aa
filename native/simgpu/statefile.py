"""The layout of the state file, so that Python can make one, read one and plan failures in one.

It mirrors include/simgpu_state.h, which holds the meaning of each field; a test compares the two.
"""

import ctypes
import fcntl
import mmap
import os
import struct
import time
from pathlib import Path
from typing import ClassVar

MAGIC = 0x3155504753494D53
LAYOUT = 2
MAX_CARDS = 16
MAX_SLOTS = 128
MAX_FAULTS = 32
MAX_EVENTS = 64
TRACE = 256
TEXT = 96
LOCK_BASE = 1 << 40
_U64 = ctypes.c_uint64


def _numbers(*names: str) -> list[tuple[str, type[ctypes.c_uint64]]]:
    return [(name, _U64) for name in names]


class Fault(ctypes.Structure):
    """A planned failure."""

    _fields_ = [
        ("function", ctypes.c_char * TEXT),
        *_numbers("active", "countdown", "repeat", "code", "hits"),
    ]


class Event(ctypes.Structure):
    """An event of a card."""

    _fields_ = _numbers("number", "card", "type", "code")


class CardFacts(ctypes.Structure):
    """What a card is."""

    _fields_ = [
        ("name", ctypes.c_char * TEXT),
        ("uuid", ctypes.c_char * TEXT),
        ("serial", ctypes.c_char * TEXT),
        *_numbers("memory", "context_bytes", "module_bytes", "minor", "pci_domain", "pci_bus", "pci_device"),
        *_numbers("pci_device_id", "pci_subsystem_id", "compute_major", "compute_minor", "architecture"),
        *_numbers("brand", "numa_node", "multiprocessors", "sm_clock", "memory_clock", "power_limit"),
        *_numbers("link_group", "pool_chunk", "lazy_bytes"),
        ("spare", _U64 * 5),
    ]


class Card(ctypes.Structure):
    """What happens on a card now."""

    _fields_ = [
        ("facts", CardFacts),
        *_numbers("lock", "used", "peak", "busy_until", "launches", "refused", "lost"),
        *_numbers("ecc_corrected", "ecc_uncorrected", "released"),
        ("spare", _U64 * 6),
    ]


class Stretch(ctypes.Structure):
    """A stretch of a process's work."""

    _fields_ = _numbers("start", "end", "busy")


class Account(ctypes.Structure):
    """A process's account on one card."""

    _fields_ = [
        *_numbers("bytes", "peak", "contexts", "launches", "busy", "last_end", "stretches"),
        ("spare", _U64 * 1),
        ("trace", Stretch * TRACE),
    ]


class Slot(ctypes.Structure):
    """A process."""

    _fields_ = [
        *_numbers("taken", "pid", "started", "generation", "identity", "ended"),
        ("spare", _U64 * 2),
        ("accounts", Account * MAX_CARDS),
    ]


class State(ctypes.Structure):
    """The whole file."""

    _fields_ = [
        *_numbers("magic", "layout", "size", "card_count", "cuda_version"),
        ("driver_version", ctypes.c_char * TEXT),
        ("nvml_version", ctypes.c_char * TEXT),
        *_numbers("armed", "event_count", "shared_tail", "foreign_pids", "linger_ns", "event_percent"),
        ("spare", _U64 * 5),
        ("faults", Fault * MAX_FAULTS),
        ("events", Event * MAX_EVENTS),
        ("cards", Card * MAX_CARDS),
        ("slots", Slot * MAX_SLOTS),
    ]


class OpenState:
    """A mapped state file.

    Descriptors are kept open for the life of the process: closing any descriptor of the file would
    drop the lock by which a simulated library in this very process shows that it is alive.
    """

    _open: ClassVar[dict[tuple[int, int], "OpenState"]] = {}

    def __init__(self, descriptor: int) -> None:
        """Maps the file; ValueError when it is no state file of this layout."""
        self.descriptor = descriptor
        if os.fstat(descriptor).st_size < ctypes.sizeof(State):
            raise ValueError("not a simgpu state file: too short")
        self._map = mmap.mmap(descriptor, ctypes.sizeof(State))
        self.state = State.from_buffer(self._map)
        if (self.state.magic, self.state.layout, self.state.size) != (MAGIC, LAYOUT, ctypes.sizeof(State)):
            raise ValueError("not a simgpu state file of this layout")

    @classmethod
    def at(cls, path: Path) -> "OpenState":
        """The state at `path`, opened once per process. OSError when it cannot be opened."""
        facts = path.stat()
        key = (facts.st_dev, facts.st_ino)
        if key not in cls._open:
            cls._open[key] = cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return cls._open[key]

    def owner(self, slot: int) -> int | None:
        """The pid of the slot's process in this PID namespace (0: not visible here); None: dead."""
        entry = self.state.slots[slot]
        if not entry.taken:
            return None
        if entry.identity == own_identity():
            return os.getpid()
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, LOCK_BASE + slot, 1, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(self.descriptor, fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else max(pid, 0)


def own_identity() -> int:
    """How this process signs its slots: random bytes that the kernel gave at exec, and the pid."""
    for kind, value in struct.iter_unpack("QQ", Path("/proc/self/auxv").read_bytes()):
        if kind == 25:
            return ctypes.c_uint64.from_address(value).value ^ os.getpid()
    return 0


def monotonic_ns() -> int:
    """The clock of the time line."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
