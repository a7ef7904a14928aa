"""Carries a share's limits to its container: the file `limits`, that the node writes and the shim maps.

The file is bind-mounted, so its first form is renamed into place and every later one is written into the same
file under its sequence number: a rename would reach nobody who has it mounted already.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

from drivers import shim_abi as abi
from drivers.errors import ShareFileUnusable, ShareRefused
from drivers.files import write_at, write_into, write_new, write_whole
from drivers.model import ComputePolicy, Priority, Share
from drivers.shim_fields import (
    check_head,
    fresh,
    number,
    put_number,
    put_text,
    read_whole,
    text,
)

# Everybody may read it: containers run as any user. The folder above it is closed to all but root.
MODE = 0o644
TEXTS = ("device_uuid", "pci_bus_id", "share_key")
# A writer is done in microseconds, unless the machine is so busy that it has to wait for its turn amid a change.
READ_PATIENCE_S = 0.5
READ_NAP_S = 0.001


class LogLevel(StrEnum):
    """How much the shim tells in its log."""

    OFF = "off"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


POLICIES: dict[StrEnum, int] = {
    ComputePolicy.FIXED: abi.COMPUTE_FIXED,
    ComputePolicy.BURST: abi.COMPUTE_BURST,
    ComputePolicy.SHARED: abi.COMPUTE_SHARED,
}
PRIORITIES: dict[StrEnum, int] = {Priority.LOW: abi.PRIORITY_LOW, Priority.HIGH: abi.PRIORITY_HIGH}
LOG_LEVELS: dict[StrEnum, int] = {
    LogLevel.OFF: abi.LOG_OFF,
    LogLevel.ERROR: abi.LOG_ERROR,
    LogLevel.WARNING: abi.LOG_WARNING,
    LogLevel.INFO: abi.LOG_INFO,
    LogLevel.DEBUG: abi.LOG_DEBUG,
}
ENUMERATIONS = {"compute_policy": POLICIES, "priority": PRIORITIES, "log_level": LOG_LEVELS}
SWITCHES = {"oversubscribe": abi.FLAG_OVERSUBSCRIBE, "deny_on_error": abi.FLAG_DENY_ON_ERROR}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one share may use of one card.

    Memory and swap in bytes, cores in percent (0: no reservation; as `current` also no cap), times in
    nanoseconds of CLOCK_MONOTONIC. `guaranteed` is what was allocated, `current` what is enforced now.
    `deny_on_error`: a share whose accounting cannot be used refuses work instead of going unlimited.
    """

    share_key: str
    device_uuid: str
    device_memory_bytes: int
    memory_guaranteed_bytes: int
    memory_current_bytes: int
    cores_guaranteed: int
    cores_current: int
    pci_bus_id: str = ""
    device_index: int = 0
    device_cores: int = 100
    swap_bytes: int = 0
    compute_policy: ComputePolicy = ComputePolicy.FIXED
    priority: Priority = Priority.LOW
    log_level: LogLevel = LogLevel.OFF
    oversubscribe: bool = False
    deny_on_error: bool = False
    paused: bool = False
    heartbeat_ns: int = 0
    heartbeat_timeout_ns: int = 0


SPECIAL = {*TEXTS, *ENUMERATIONS, *SWITCHES, "paused"}
NUMBERS = tuple(field.name for field in fields(Limits) if field.name not in SPECIAL)


def share_limits(share: Share, *, now_ns: int) -> Limits:
    """Return the limits that enforce a share: enforced now = what was allocated.

    `now_ns` (CLOCK_MONOTONIC) is the writer's sign of life. A share denies on error, because a tenant who
    spoils his own accounting would otherwise have the whole card.

    Raises:
        ShareRefused: the log level is not one.
    """
    device, settings = share.device, share.settings
    return Limits(
        share_key=share.key,
        device_uuid=device.uuid,
        pci_bus_id=device.pci_bus_id,
        device_index=device.index,
        device_memory_bytes=device.memory.value,
        device_cores=device.cores.value,
        memory_guaranteed_bytes=share.memory,
        memory_current_bytes=share.memory,
        cores_guaranteed=share.cores,
        cores_current=share.cores,
        compute_policy=settings.compute_policy,
        priority=settings.priority,
        log_level=_log_level(settings.log_level),
        swap_bytes=settings.host_memory,
        oversubscribe=settings.host_memory > 0,
        deny_on_error=True,
        heartbeat_ns=now_ns,
    )


def _log_level(word: str) -> LogLevel:
    try:
        return LogLevel(word)
    except ValueError as error:
        raise ShareRefused(f"logLevel: {word!r} is not one of {', '.join(LogLevel)}") from error


def encode(limits: Limits, *, sequence: int = 0) -> bytes:
    """Return the file's content.

    Raises:
        ShareFileUnusable: a value does not fit its field.
    """
    content = fresh(abi.LIMITS, abi.LIMITS_MAGIC, abi.LIMITS_SIZE)
    for name in TEXTS:
        put_text(content, abi.LIMITS, name, getattr(limits, name))
    for name in NUMBERS:
        put_number(content, abi.LIMITS, name, getattr(limits, name))
    for name, codes in ENUMERATIONS.items():
        put_number(content, abi.LIMITS, name, codes[getattr(limits, name)])
    flags = sum(bit for name, bit in SWITCHES.items() if getattr(limits, name))
    put_number(content, abi.LIMITS, "flags", flags)
    put_number(content, abi.LIMITS, "gate", abi.GATE_PAUSED if limits.paused else abi.GATE_OPEN)
    put_number(content, abi.LIMITS, "sequence", sequence)
    return bytes(content)


def decode(content: bytes) -> Limits:
    """Return the limits that a file's content tells.

    Raises:
        ShareFileUnusable: the content breaks the contract; names the first field that does.
    """
    check_head(content, abi.LIMITS, abi.LIMITS_MAGIC, abi.LIMITS_SIZE)
    values: dict[str, object] = {name: text(content, abi.LIMITS, name) for name in TEXTS}
    values |= {name: number(content, abi.LIMITS, name) for name in NUMBERS}
    values |= {name: _enumerated(content, name) for name in ENUMERATIONS}
    flags = number(content, abi.LIMITS, "flags")
    values |= {name: bool(flags & bit) for name, bit in SWITCHES.items()}
    values["paused"] = number(content, abi.LIMITS, "gate") == abi.GATE_PAUSED
    return Limits(**values)  # type: ignore[arg-type] # the tables above name exactly the fields


def _enumerated(content: bytes, name: str) -> StrEnum:
    found = number(content, abi.LIMITS, name)
    for member, code in ENUMERATIONS[name].items():
        if code == found:
            return member
    raise ShareFileUnusable(name, f"{found} is not one of {sorted(ENUMERATIONS[name].values())}")


def read_limits(path: Path) -> Limits:
    """Return the limits in a file; waits out a writer who is in the middle.

    Raises:
        ShareFileUnusable: the file breaks the contract, or its writer died in the middle.
        OSError: the file cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        until = time.monotonic() + READ_PATIENCE_S
        while time.monotonic() < until:
            before = _sequence(descriptor)
            content = read_whole(descriptor, abi.LIMITS_SIZE)
            if before % 2 == 0 and before == _sequence(descriptor):
                return decode(content)
            time.sleep(READ_NAP_S)
    finally:
        os.close(descriptor)
    raise ShareFileUnusable("sequence", "its writer did not finish")


def write_limits(path: Path, limits: Limits) -> None:
    """Make the file tell `limits`: a new file where there is none, otherwise a change in place.

    One writer at a time for a file: the caller sees to it (a lock on the file would be the tenant's to
    take). A change that a crash cut off is finished by the next call. The disk is not waited for: no container of
    the share outlives what could lose the file, and its next container gets it written again.

    Raises:
        ShareFileUnusable: a value does not fit its field; or the file belongs to another share or card, or to
            another major version, whose container must not be misled.
        OSError: the file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        write_new(path, encode(limits), mode=MODE)
        return
    try:
        before = read_whole(descriptor, abi.LIMITS_SIZE)
        readable = len(before) == abi.LIMITS_SIZE and number(before, abi.LIMITS, "magic") == abi.LIMITS_MAGIC
        if readable:
            _check_same_share(before, limits)
            _write_in_place(descriptor, limits)
    finally:
        os.close(descriptor)
    if not readable:
        # No reader accepts such a file, so nobody can be using it.
        write_whole(path, encode(limits), mode=MODE, durable=False)


def make_spare_limits(path: Path) -> None:
    """Make a file that `fill_spare_limits` fills in, when it is known for whom it is. Raises OSError."""
    write_new(path, bytes(abi.LIMITS_SIZE), mode=MODE)


def fill_spare_limits(path: Path, limits: Limits) -> None:
    """Make the file that no container has ever had tell `limits`. Raises ShareFileUnusable, OSError."""
    write_into(path, encode(limits))


def _check_same_share(before: bytes, limits: Limits) -> None:
    check_head(before, abi.LIMITS, abi.LIMITS_MAGIC, abi.LIMITS_SIZE)
    for name in ("share_key", "device_uuid"):
        found, wanted = text(before, abi.LIMITS, name), getattr(limits, name)
        if found != wanted:
            raise ShareFileUnusable(name, f"the file belongs to {found!r}, not {wanted!r}")


def _write_in_place(descriptor: int, limits: Limits) -> None:
    """Write every byte but the sequence, between an odd and an even sequence.

    Each step is a system call of its own: the kernel takes and drops the file's lock in each, which orders
    the stores for every processor that has the page mapped.
    """
    field = abi.LIMITS["sequence"]
    writing = _sequence(descriptor) | 1
    content = encode(limits, sequence=writing)
    end = field.offset + field.size
    write_at(descriptor, content[field.offset : end], field.offset)
    write_at(descriptor, content[: field.offset], 0)
    write_at(descriptor, content[end:], end)
    write_at(descriptor, encode(limits, sequence=_after(writing))[field.offset : end], field.offset)


def _after(sequence: int) -> int:
    return (sequence + 1) % 2**64


def _sequence(descriptor: int) -> int:
    field = abi.LIMITS["sequence"]
    return int.from_bytes(os.pread(descriptor, field.size, field.offset), "little")
