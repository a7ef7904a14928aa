"""The plugin's own memory of what it has prepared: one file, whole at any moment, checked when it is read.

It is written beside its place, synced and renamed, before and after every effect, so that whatever happens the next
start finds either the state before or the one after; the version before it is kept beside it. Changes that come at
once are written at once: the disk's answer, not the writing, is what takes time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import structlog

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kubeletplugin.checkpoint_format import (
    PreparedClaim,
    PreparedShare,
    State,
    decode,
    encode,
    encode_record,
)
from drivers.files import sync_file, write_whole

__all__ = ["Checkpoint", "PreparedClaim", "PreparedShare", "State"]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FILE_NAME = "checkpoint.json"
PREVIOUS_NAME = "checkpoint.previous.json"

_Identity = tuple[int, int, int]


@dataclass(eq=False)
class _Change:
    """One change by one caller; `record` None removes the claim."""

    uid: str
    record: PreparedClaim | None
    durable: bool = True
    done: bool = False
    error: BaseException | None = None


class Checkpoint:
    """The prepared claims by UID, on disk and in memory. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._previous = folder / PREVIOUS_NAME
        self._lock = Lock()
        self._waiting: list[_Change] = []
        self._claims: dict[str, PreparedClaim] = {}
        self._records: dict[str, str] = {}
        self._identity: _Identity | None = None
        # Whether the file in place would outlive a power cut.
        self._synced = False

    @property
    def exists(self) -> bool:
        """Tell whether there is a file, whatever is in it."""
        return self._path.exists()

    def load(self) -> None:
        """Read the file; no file is an empty checkpoint. Raises CheckpointUnreadable, OSError."""
        with self._lock:
            self._read()

    def load_previous(self) -> tuple[PreparedClaim, ...]:
        """Read the version before the last change; a file that is absent or damaged tells nothing. Raises OSError."""
        try:
            return decode(self._previous.read_bytes())
        except FileNotFoundError:
            return ()
        except CheckpointUnreadable as error:
            log.warning("previous_checkpoint_unreadable", path=str(self._previous), error=str(error))
            return ()

    def set_aside(self) -> Path | None:
        """Keep a copy of the file under a name of its own, for people to look at. Raises OSError."""
        try:
            digest = hashlib.sha256(self._path.read_bytes()).hexdigest()[:12]
        except FileNotFoundError:
            return None
        aside = self._path.with_name(f"checkpoint.damaged-{digest}.json")
        with contextlib.suppress(FileExistsError):
            os.link(self._path, aside)
        return aside

    def rebuild(self, claims: Iterable[PreparedClaim]) -> None:
        """Put these claims in place of whatever the file says; the version before stays what it is. Raises OSError."""
        with self._lock:
            by_uid = {claim.uid: claim for claim in claims}
            self._write(by_uid, {uid: encode_record(claim) for uid, claim in by_uid.items()})

    def refresh(self) -> None:
        """Read the file again if somebody else has written it.

        A file that has vanished or is damaged under a living plugin is written again from memory, which was right
        at the last change. Raises OSError.
        """
        with self._lock:
            if self._identity == _identity(self._path):
                return
            try:
                self._read()
                lost = self._identity is None
            except CheckpointUnreadable as error:
                lost = True
                log.error("checkpoint_damaged", error=str(error), set_aside=str(self.set_aside()))
            if lost and self._claims:
                self._write(self._claims, self._records)

    def get(self, uid: str) -> PreparedClaim | None:
        """Look up one claim."""
        return self._claims.get(uid)

    def claims(self) -> tuple[PreparedClaim, ...]:
        """List all claims, in the order of their preparation."""
        return tuple(self._claims.values())

    def put(self, claim: PreparedClaim, *, durable: bool = True) -> None:
        """Record a claim before this returns. Raises OSError, and then nothing has changed.

        What is not `durable` outlives this process but perhaps no power cut: it is for what a boot makes void, and
        the next durable change takes it along.
        """
        self._carry_out(_Change(claim.uid, claim, durable))

    def remove(self, uid: str) -> None:
        """Forget a claim, durably. Raises OSError, and then nothing has changed."""
        self._carry_out(_Change(uid, None))

    def _carry_out(self, change: _Change) -> None:
        """Write the change, with all others that wait by then; or find it written by whoever was before us."""
        self._waiting.append(change)
        with self._lock:
            if not change.done:
                batch, self._waiting = self._waiting, []
                self._write_batch(batch)
        if change.error is not None:
            raise change.error

    def _write_batch(self, batch: list[_Change]) -> None:
        claims, records = dict(self._claims), dict(self._records)
        for change in batch:
            if change.record is None:
                claims.pop(change.uid, None)
                records.pop(change.uid, None)
            else:
                claims[change.uid] = change.record
                records[change.uid] = encode_record(change.record)
        try:
            self._keep_previous()
            self._write(claims, records, durable=any(change.durable for change in batch))
        except BaseException as error:  # noqa: BLE001 - raised again by every caller of the batch
            for change in batch:
                change.error = error
        for change in batch:
            change.done = True

    def _write(self, claims: Mapping[str, PreparedClaim], records: Mapping[str, str], *, durable: bool = True) -> None:
        write_whole(self._path, encode(records.values()), mode=0o600, durable=durable)
        self._claims, self._records = dict(claims), dict(records)
        self._identity = _identity(self._path)
        self._synced = durable

    def _keep_previous(self) -> None:
        """Give the file that is about to be replaced a second name.

        But never in the place of a version that a power cut would leave and this one not.
        """
        if not self._synced:
            return
        temporary = self._previous.with_name(f".{PREVIOUS_NAME}.tmp")
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.link(self._path, temporary)
            temporary.replace(self._previous)

    def _read(self) -> None:
        """Read the file; where there is none, memory is left alone and the identity tells."""
        self._identity = _identity(self._path)
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        sync_file(self._path)
        self._synced = True
        try:
            claims = decode(content)
        except CheckpointUnreadable as error:
            raise CheckpointUnreadable(f"checkpoint {self._path}: {error}") from error
        self._claims = {claim.uid: claim for claim in claims}
        self._records = {claim.uid: encode_record(claim) for claim in claims}


def _identity(path: Path) -> _Identity | None:
    """Tell one writing of the file from the next; a writing is always a new file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
