"""Turns single fields of the shim's files into values, so that no byte is trusted before it was checked.

What both files have in common: how text and numbers lie in them, and the head by which a reader knows them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from drivers import shim_abi as abi
from drivers.errors import ShareFileUnusable


def put_number(target: bytearray, fields: Mapping[str, abi.Field], name: str, value: int) -> None:
    """Write one number at its place.

    Raises:
        ShareFileUnusable: the value does not fit the field.
    """
    field = fields[name]
    try:
        struct.pack_into(field.format, target, field.offset, value)
    except struct.error as error:
        raise ShareFileUnusable(name, f"{value} does not fit its {field.size} bytes") from error


def put_text(target: bytearray, fields: Mapping[str, abi.Field], name: str, value: str) -> None:
    """Write NUL-terminated ASCII at its place.

    Raises:
        ShareFileUnusable: the text is not printable ASCII, or longer than the field holds.
    """
    field = fields[name]
    if not (value.isascii() and value.isprintable()):
        raise ShareFileUnusable(name, f"{value!r} is not printable ASCII")
    if len(value) >= field.size:
        raise ShareFileUnusable(name, f"{value!r} is longer than {field.size - 1} bytes")
    struct.pack_into(field.format, target, field.offset, value.encode("ascii"))


def number(source: bytes, fields: Mapping[str, abi.Field], name: str, base: int = 0) -> int:
    """Return one number; `base` is where the struct begins in `source`."""
    field = fields[name]
    value: int = struct.unpack_from(field.format, source, base + field.offset)[0]
    return value


def text(source: bytes, fields: Mapping[str, abi.Field], name: str) -> str:
    """Return a NUL-terminated text.

    Raises:
        ShareFileUnusable: no NUL, or something other than printable ASCII before it.
    """
    field = fields[name]
    raw, end, _ = source[field.offset : field.offset + field.size].partition(b"\0")
    if not end:
        raise ShareFileUnusable(name, "no NUL at its end")
    value = raw.decode("latin-1")
    if not (value.isascii() and value.isprintable()):
        raise ShareFileUnusable(name, f"{value!r} is not printable ASCII")
    return value


def check_head(source: bytes, fields: Mapping[str, abi.Field], magic: int, size: int) -> None:
    """Refuse bytes that do not begin with the head of a file that this version understands.

    Raises:
        ShareFileUnusable: too short, another magic, another major version, another size.
    """
    if len(source) < size:
        raise ShareFileUnusable("size", f"the file has {len(source)} bytes, not {size}")
    for name, wanted in (("magic", magic), ("abi_major", abi.ABI_MAJOR), ("size", size)):
        found = number(source, fields, name)
        if found != wanted:
            raise ShareFileUnusable(name, f"{found:#x}, where {wanted:#x} is expected")


def fresh(fields: Mapping[str, abi.Field], magic: int, size: int) -> bytearray:
    """Return `size` zeroed bytes with the head set."""
    target = bytearray(size)
    head = {"magic": magic, "abi_major": abi.ABI_MAJOR, "abi_minor": abi.ABI_MINOR, "size": size}
    for name, value in head.items():
        put_number(target, fields, name, value)
    return target


def read_whole(descriptor: int, size: int) -> bytes:
    """Read up to `size` bytes from the beginning; fewer only where the file is shorter."""
    parts = bytearray()
    while len(parts) < size:
        part = os.pread(descriptor, size - len(parts), len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)
