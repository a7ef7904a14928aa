"""The changes since the checkpoint file was written: appended, so that a change costs what it says and no more.

A change is one line, with its own checksum, in one write. The file has its full size from the beginning: making a line
durable is then a matter of its own bytes, with nothing for the file system to note down that others would have to be
waited for; and a disk that is full by then does not keep claims from being taken back.

What is appended is in the kernel's memory: no end of the process loses it. `sync` is for the power cut. What that
leaves is a beginning of what was appended, all up to the last sync at least.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kubeletplugin.checkpoint_format import CURRENT, VERSION, Format, PreparedClaim, read_document
from drivers.files import sync_file, write_at

SIZE = 1 << 20
_DIGITS = 16

FileIdentity = tuple[int, int, int]
"""Tells one writing of a file from the next: its inode, and when it was written to what size."""


def file_identity(status: os.stat_result) -> FileIdentity:
    """What tells this writing of a file from the next."""
    return status.st_ino, status.st_mtime_ns, status.st_size


@dataclass(frozen=True)
class Change:
    """What one line says of a claim: its record, or that there is none any more."""

    uid: str
    record: PreparedClaim | None


@dataclass(frozen=True)
class Read:
    """What a journal tells; `damage` says what is wrong with what follows, or is empty."""

    changes: tuple[Change, ...]
    damage: str = ""

    def applied(self, claims: Iterable[PreparedClaim]) -> dict[str, PreparedClaim]:
        """Tell the claims by UID as they are after the changes."""
        by_uid = {claim.uid: claim for claim in claims}
        for change in self.changes:
            if change.record is None:
                by_uid.pop(change.uid, None)
            else:
                by_uid[change.uid] = change.record
        return by_uid


def put_line(record: str) -> bytes:
    """Write that a claim has this record now, in the words of checkpoint_format.encode_record."""
    return _line(f'{{"put":{record}}}')


def removed_line(uid: str) -> bytes:
    """Write that a claim is forgotten."""
    return _line(json.dumps({"removed": uid}))


class Journal:
    """A journal of this process's own. `append` is called by one thread at a time, `sync` by any."""

    def __init__(self, path: Path, number: int, size: int = SIZE) -> None:
        """Make a new file. It is durable when its folder is synced. Raises OSError."""
        self.path = path
        self.number = number
        self._size = size
        head = _line(json.dumps({"version": VERSION, "oldest_reader": VERSION, "journal": number, "size": size}))
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        try:
            write_at(self._descriptor, head + bytes(size - len(head)), 0)
            os.fsync(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._head = self._end = self._synced = len(head)
        self._syncing = Lock()

    @property
    def changes(self) -> int:
        """Tell how many bytes of changes there are."""
        return self._end - self._head

    @property
    def identity(self) -> FileIdentity:
        """Tell what the file is now, wherever it may have gone. Raises OSError."""
        return file_identity(os.fstat(self._descriptor))

    def has_room(self, lines: bytes) -> bool:
        """Tell whether these lines fit in."""
        return self._end + len(lines) <= self._size

    @property
    def long(self) -> bool:
        """Tell whether it is time for another one."""
        return self._end > self._size // 2

    def append(self, lines: bytes) -> None:
        """Add lines. Raises OSError, and then nothing more can be added: a part of a line may be there."""
        try:
            write_at(self._descriptor, lines, self._end)
        except OSError:
            self._size = self._end
            raise
        self._end += len(lines)

    def sync(self) -> None:
        """Make durable all that was appended before this call; one sync serves all who wait. Raises OSError."""
        wanted = self._end
        with self._syncing:
            if self._synced < wanted:
                reached = self._end
                os.fdatasync(self._descriptor)
                self._synced = reached

    def close(self) -> None:
        """Let go of the file, when nobody syncs it."""
        with self._syncing:
            if self._descriptor >= 0:
                self._synced = self._end
                os.close(self._descriptor)
                self._descriptor = -1


def read_journal(path: Path, *, reader: Format = CURRENT) -> Read:
    """Read a journal as far as it is whole, and make that durable. Raises OSError.

    What follows may be a line that a dying process could not finish, which nobody was told of: that is no damage.
    """
    try:
        raw = path.read_bytes()
        sync_file(path)
    except FileNotFoundError:
        return Read((), "the file is gone")
    return decode_journal(raw, reader=reader)


def decode_journal(raw: bytes, *, reader: Format = CURRENT) -> Read:
    """Read the content of a journal."""
    head, _, rest = raw.partition(b"\n")
    try:
        version = _checked(head)
    except CheckpointUnreadable as error:
        return Read((), f"line 1: {error}")
    # The full size is there before the first change, so what is missing was cut off.
    cut = "" if len(raw) == version.get("size") else f"{len(raw)} bytes are left of {version.get('size')}"
    changes: list[Change] = []
    lines = rest.rstrip(b"\0").split(b"\n")
    for number, line in enumerate(lines, start=2):
        if number == len(lines) + 1:
            # After the last line: nothing, or one that was not finished.
            break
        try:
            changes.append(_change(line, version, reader))
        except CheckpointUnreadable as error:
            return Read(tuple(changes), f"line {number}: {error}")
    return Read(tuple(changes), cut)


def _line(text: str) -> bytes:
    content = text.encode()
    return b"%s %s\n" % (_digest(content), content)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:_DIGITS].encode()


def _checked(line: bytes) -> Mapping[str, object]:
    digest, _, content = line.partition(b" ")
    if digest != _digest(content):
        raise CheckpointUnreadable("the checksum does not match")
    document = json.loads(content)
    if not isinstance(document, dict):
        raise CheckpointUnreadable("not an object")
    return document


def _change(line: bytes, version: Mapping[str, object], reader: Format) -> Change:
    document = _checked(line)
    removed = document.get("removed")
    if isinstance(removed, str):
        return Change(removed, None)
    # A record is written in the version of the whole, and is read and brought up like a file with one claim.
    (record,) = read_document({**version, "claims": [document.get("put")]}, reader=reader).claims
    return Change(record.uid, record)
