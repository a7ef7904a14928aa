"""What a layer holds, and its bytes: the same for the same content, whoever builds it and when.

Names of layers and images are hashes of their bytes, so time, user and order of files must not show in them.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class File:
    """A regular file of a layer."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    """A symbolic link of a layer."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A folder that must be there, or needs another mode than 0755."""

    mode: int = 0o755


Entry = File | Link | Folder


def layer(entries: Mapping[str, Entry]) -> bytes:
    """A layer as an uncompressed tar; keys are paths without a leading slash. Parents are added."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in sorted(_with_parents(entries).items()):
            member = tarfile.TarInfo(path)
            if isinstance(entry, File):
                member.mode, member.size = entry.mode, len(entry.content)
                tar.addfile(member, io.BytesIO(entry.content))
                continue
            if isinstance(entry, Link):
                member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, entry.target
            else:
                member.type, member.mode = tarfile.DIRTYPE, entry.mode
            tar.addfile(member)
    return buffer.getvalue()


def _with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    whole: dict[str, Entry] = {}
    for path in entries:
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                whole[str(parent)] = Folder()
    return {**whole, **entries}
