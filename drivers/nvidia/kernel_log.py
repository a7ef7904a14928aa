"""Finds in the kernel's log the XID errors that the driver told while nobody listened: NVML repeats none of them.

A plugin that is updated, restarted or killed is away for seconds or minutes, and a card that fails just then would be
taken for healthy for ever. The driver writes every XID to the kernel's log too. Reading it needs a privileged
container; where it may not be read, what happened meanwhile stays unknown, and the log says so.

Source: Documentation/ABI/testing/dev-kmsg (Linux); the line's form in NVIDIA, "Working with Xid Errors".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from drivers.nvidia.description import VENDOR
from drivers.pci import kernel_bus_id

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

KERNEL_LOG = Path("/dev/kmsg")
# priority and facility, sequence number, microseconds since the boot, flags; then the driver's line.
_LINE = re.compile(
    r"(?P<priority>\d+),\d+,(?P<us>\d+),[^;]*;NVRM: Xid "
    r"\(PCI:(?P<address>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-7])?\): (?P<xid>\d{1,5})\b"
)
# A record is at most this long; one read gives one record.
_LONGEST_RECORD = 8192
# The kernel's own ring is smaller than this; what is more is no kernel's log.
_LONGEST_LOG = 64 << 20
# Who writes to the log from outside the kernel cannot claim the kernel's facility, which is 0.
_FACILITY_SHIFT = 3


@dataclass(frozen=True)
class LoggedXid:
    """An XID error of the card at a PCI address, and when it was, in seconds since the boot."""

    pci_bus_id: str
    number: int
    at: float


def logged_xids(path: Path) -> tuple[LoggedXid, ...]:
    """Read the XID errors that are still in the kernel's log, the oldest first; none where it cannot be read."""
    try:
        content = _read(path)
    except OSError as error:
        log.info("kernel_log_not_read", vendor=VENDOR, path=str(path), error=str(error))
        return ()
    return tuple(_xids(content.decode(errors="replace")))


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return b"".join(_records(descriptor))
    finally:
        os.close(descriptor)


def _records(descriptor: int) -> Iterator[bytes]:
    total = 0
    while total < _LONGEST_LOG:
        try:
            record = os.read(descriptor, _LONGEST_RECORD)
        except BlockingIOError:
            return
        except BrokenPipeError:
            # What we were about to read has been overwritten: on with the oldest that is there.
            continue
        if not record:
            return
        total += len(record)
        yield record


def _xids(content: str) -> Iterator[LoggedXid]:
    for line in content.splitlines():
        found = _LINE.match(line)
        if found is not None and int(found["priority"]) >> _FACILITY_SHIFT == 0:
            yield LoggedXid(kernel_bus_id(f"{found['address']}.0"), int(found["xid"]), int(found["us"]) / 1e6)
