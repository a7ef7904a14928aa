"""A share's two files as a test writes and reads them, by the offsets that are generated from the C header."""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from drivers import shim_abi as abi


@dataclass(frozen=True)
class ShareFiles:
    """The folder of one share. Figures are bytes, percent and nanoseconds, as in the header."""

    folder: Path

    def write_limit(self, name: str, value: int) -> None:
        """Changes one field in place under the sequence number, as the node plugin does."""
        with (self.folder / "limits").open("r+b") as file, mmap.mmap(file.fileno(), abi.LIMITS_SIZE) as limits:
            sequence = abi.LIMITS["sequence"]
            before = struct.unpack_from(sequence.format, limits, sequence.offset)[0]
            struct.pack_into(sequence.format, limits, sequence.offset, before + 1)
            struct.pack_into(abi.LIMITS[name].format, limits, abi.LIMITS[name].offset, value)
            struct.pack_into(sequence.format, limits, sequence.offset, before + 2)

    def usage(self, name: str) -> int:
        """One figure of the share."""
        field = abi.USAGE[name]
        return int(struct.unpack_from(field.format, (self.folder / "usage").read_bytes(), field.offset)[0])

    def forget_peak(self) -> None:
        """Lets the peak begin anew at what is charged now."""
        field = abi.USAGE["peak_bytes"]
        with (self.folder / "usage").open("r+b", buffering=0) as file:
            file.seek(field.offset)
            file.write(struct.pack(field.format, self.usage("charged_bytes")))

    def processes(self) -> list[dict[str, int]]:
        """The claimed slots."""
        content = (self.folder / "usage").read_bytes()
        return [slot for slot in (_slot(content, n) for n in range(abi.USAGE_SLOTS)) if slot["state"]]


def _slot(content: bytes, number: int) -> dict[str, int]:
    base = abi.USAGE_HEADER_SIZE + number * abi.USAGE_SLOT_SIZE
    fields = {name: field for name, field in abi.USAGE_SLOT.items() if name != "reserved"}
    return {name: struct.unpack_from(f.format, content, base + f.offset)[0] for name, f in fields.items()}


def _pack(fields: dict[str, abi.Field], size: int, values: dict[str, int | bytes]) -> bytes:
    content = bytearray(size)
    for name, value in values.items():
        struct.pack_into(fields[name].format, content, fields[name].offset, value)
    return bytes(content)


def make_share(
    root: Path, key: str, uuid: str, *, memory: int, cores: int = 0, policy: int = abi.COMPUTE_FIXED, flags: int = 0
) -> ShareFiles:
    """Writes both files as the node plugin would: `memory` bytes and `cores` percent of the card `uuid`."""
    folder = root / key
    folder.mkdir(parents=True)
    head: dict[str, int | bytes] = {"abi_major": abi.ABI_MAJOR, "share_key": key.encode()}
    limits: dict[str, int | bytes] = {
        "magic": abi.LIMITS_MAGIC,
        "size": abi.LIMITS_SIZE,
        "device_uuid": uuid.encode(),
        "memory_guaranteed_bytes": memory,
        "memory_current_bytes": memory,
        "cores_guaranteed": cores,
        "cores_current": cores,
        "compute_policy": policy,
        "flags": flags,
    }
    usage: dict[str, int | bytes] = {
        "magic": abi.USAGE_MAGIC,
        "size": abi.USAGE_SIZE,
        "header_size": abi.USAGE_HEADER_SIZE,
        "slot_size": abi.USAGE_SLOT_SIZE,
        "slot_count": abi.USAGE_SLOTS,
    }
    (folder / "limits").write_bytes(_pack(abi.LIMITS, abi.LIMITS_SIZE, head | limits))
    (folder / "usage").write_bytes(_pack(abi.USAGE, abi.USAGE_SIZE, head | usage))
    return ShareFiles(folder)
