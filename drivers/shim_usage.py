"""Reads what a share reports of itself: the file `usage`, that the node makes and the tenant may write.

Every byte is the tenant's word. A reader gets figures or a `ShareFileUnusable`, never another error, whatever
the bytes say; and figures that lie stay inside this one share. The file is read, never mapped: a tenant who
cuts a mapped file off would take the reader down with it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers import shim_abi as abi
from drivers.errors import ShareFileUnusable
from drivers.files import write_into, write_new
from drivers.shim_fields import check_head, fresh, number, put_number, put_text, read_whole, text

# Containers run as any user; only the mount of this one file opens it to one of them.
MODE = 0o666
GEOMETRY = {
    "header_size": abi.USAGE_HEADER_SIZE,
    "slot_size": abi.USAGE_SLOT_SIZE,
    "slot_count": abi.USAGE_SLOTS,
}
# struct flock: type, whence, start, length, pid (native order and alignment, as fcntl wants it)
FLOCK = "hhqqi4x"


@dataclass(frozen=True)
class ProcessUsage:
    """One process of the share, by its slot. Bytes and nanoseconds.

    `pid` and `start_time` (clock ticks since boot) are as the process's own PID namespace sees them.
    `nvml_pid` is the id by which the vendor's library knows the process, and `pid_namespace` the inode number of
    the namespace that `pid` is of; 0 where the process could not tell.
    `alive` is no word of the tenant's: it is told by the kernel, from the lock that the process holds.
    """

    slot: int
    alive: bool
    pid: int
    start_time: int
    charged_bytes: int
    context_bytes: int
    module_bytes: int
    buffer_bytes: int
    managed_bytes: int
    resident_bytes: int
    swap_bytes: int
    busy_ns: int
    throttled_ns: int
    launches: int
    last_launch_ns: int
    refused: int
    refused_bytes: int
    nvml_pid: int
    pid_namespace: int


@dataclass(frozen=True)
class Usage:
    """One share's accounting. Bytes and nanoseconds.

    `charged_bytes` is the share's own total. It still holds the charges of processes that have died since the
    last living one looked, so a share in which nobody lives keeps what its last process had; `live_bytes` does not.

    `busy_ns`, `throttled_ns`, `launches`, `refused` and `refused_bytes` are sums over all processes, those
    that have ended too, so that they never fall while the tenant is honest.
    """

    share_key: str
    charged_bytes: int
    peak_bytes: int
    budget_ns: int
    busy_ns: int
    throttled_ns: int
    launches: int
    refused: int
    refused_bytes: int
    processes: tuple[ProcessUsage, ...]

    @property
    def live_bytes(self) -> int:
        """What the processes that live are charged, bytes."""
        return sum(process.charged_bytes for process in self.processes if process.alive)


# `operations` is between the processes of the share alone.
SLOT_FIGURES = tuple(name for name in abi.USAGE_SLOT if name not in {"state", "operations", "reserved"})
SUMMED = ("busy_ns", "throttled_ns", "launches", "refused", "refused_bytes")


def create_usage(path: Path, share_key: str) -> None:
    """Make the share's accounting in full size with no process in it.

    A file of that size that is there is left alone, whatever is in it: a container may be using it. A smaller one is
    what a crash has left of making it.

    Raises:
        ShareFileUnusable: the key does not fit.
        OSError: the file cannot be written.
    """
    try:
        if path.stat().st_size >= abi.USAGE_SIZE:
            return
        path.unlink()
    except FileNotFoundError:
        pass
    content = fresh(abi.USAGE, abi.USAGE_MAGIC, abi.USAGE_HEADER_SIZE)
    put_number(content, abi.USAGE, "size", abi.USAGE_SIZE)
    for name, value in GEOMETRY.items():
        put_number(content, abi.USAGE, name, value)
    put_text(content, abi.USAGE, "share_key", share_key)
    # Not synced: after a power cut no process of the share lives, and its accounting starts anew.
    write_new(path, content, mode=MODE, size=abi.USAGE_SIZE)


def fill_spare_usage(path: Path, share_key: str) -> None:
    """Make the accounting of no share ("") that of a share. No container has ever had it.

    Raises:
        ShareFileUnusable: the key does not fit.
        OSError: the file cannot be written.
    """
    head = bytearray(abi.USAGE_HEADER_SIZE)
    put_text(head, abi.USAGE, "share_key", share_key)
    place = abi.USAGE["share_key"]
    write_into(path, bytes(head[place.offset : place.offset + place.size]), offset=place.offset)


def read_usage(path: Path) -> Usage:
    """Return the accounting that the file tells.

    Raises:
        ShareFileUnusable: the file is missing or unreadable (field "file"), or breaks the contract.
    """
    try:
        # Not to be led elsewhere by a link, nor to wait for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ShareFileUnusable("file", "not a regular file")
        return _decode(read_whole(descriptor, abi.USAGE_SIZE), descriptor)
    except OSError as error:
        raise _unreadable(error) from error
    finally:
        os.close(descriptor)


def _unreadable(error: OSError) -> ShareFileUnusable:
    return ShareFileUnusable("file", f"{errno.errorcode.get(error.errno or 0, 'EIO')}: {error.strerror}")


def _decode(content: bytes, descriptor: int) -> Usage:
    check_head(content, abi.USAGE, abi.USAGE_MAGIC, abi.USAGE_SIZE)
    for name, wanted in GEOMETRY.items():
        found = number(content, abi.USAGE, name)
        if found != wanted:
            raise ShareFileUnusable(name, f"{found}, where {wanted} is expected")
    processes = tuple(_process(content, slot, descriptor) for slot in _claimed(content))
    sums = {
        name: number(content, abi.USAGE, f"ended_{name}") + sum(getattr(p, name) for p in processes) for name in SUMMED
    }
    return Usage(
        share_key=text(content, abi.USAGE, "share_key"),
        charged_bytes=number(content, abi.USAGE, "charged_bytes"),
        peak_bytes=number(content, abi.USAGE, "peak_bytes"),
        budget_ns=number(content, abi.USAGE, "budget_ns"),
        processes=processes,
        **sums,
    )


def _base(slot: int) -> int:
    return abi.USAGE_HEADER_SIZE + slot * abi.USAGE_SLOT_SIZE


def _claimed(content: bytes) -> Iterator[int]:
    """Yield the slots that are in use. There are a thousand, nearly all free: looked at in one go."""
    slots = memoryview(content)[abi.USAGE_HEADER_SIZE : _base(abi.USAGE_SLOTS)].cast("I")
    states = slots[abi.USAGE_SLOT["state"].offset // slots.itemsize :: abi.USAGE_SLOT_SIZE // slots.itemsize]
    for slot, state in enumerate(states.tolist()):
        if state == abi.SLOT_CLAIMED:
            yield slot
        elif state != abi.SLOT_FREE:
            raise ShareFileUnusable(f"slots[{slot}].state", f"{state} is not a state")


def _process(content: bytes, slot: int, descriptor: int) -> ProcessUsage:
    figures = {name: number(content, abi.USAGE_SLOT, name, _base(slot)) for name in SLOT_FIGURES}
    return ProcessUsage(slot=slot, alive=_is_locked(descriptor, slot), **figures)


def _is_locked(descriptor: int, slot: int) -> bool:
    """Tell whether somebody holds the slot's lock byte (VGPU_USAGE_LOCK_OFFSET), so lives."""
    question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, abi.USAGE_SIZE + slot, 1, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question)
    kind: int = struct.unpack(FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK
