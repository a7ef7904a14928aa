"""The plugin's own memory of what it has prepared: a file that is whole at any moment, and the changes since.

The file is written beside its place, synced and renamed, and the version before it is kept. A change is a line in a
journal (journal.py), so that it costs as much on a full node as on an empty one; now and then, at the start and at the
end, a new file takes the changes in. While another plugin lives on the node, which may be of another version, every
change is a whole file: that is what all versions read.

A change is told to other processes, and to the next life of this one, when `put` and `remove` return; it outlives a
power cut when `sync` returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import structlog

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kubeletplugin.checkpoint_format import (
    Contents,
    PreparedClaim,
    PreparedShare,
    State,
    decode,
    encode,
    encode_record,
)
from dra_driver.kubeletplugin.holders import Holders, holders_after, holders_of, on_cards
from dra_driver.kubeletplugin.journal import (
    SIZE,
    FileIdentity,
    Journal,
    file_identity,
    put_line,
    read_journal,
    removed_line,
)
from drivers.files import sync_file, write_whole

__all__ = ["Checkpoint", "PreparedClaim", "PreparedShare", "State"]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FILE_NAME = "checkpoint.json"
PREVIOUS_NAME = "checkpoint.previous.json"

_Identity = FileIdentity | None


@dataclass(eq=False)
class _Change:
    """One change by one caller; `record` None removes the claim."""

    uid: str
    record: PreparedClaim | None
    done: bool = False
    error: BaseException | None = None


class Checkpoint:
    """The prepared claims by UID, on disk and in memory. Safe to use from several threads.

    `written_in` is the boot in which the file was written that was read, "" where that is not known.
    """

    def __init__(
        self,
        folder: Path,
        *,
        boot_id: str = "",
        alone: Callable[[], bool] = lambda: True,
        journal_size: int = SIZE,
    ) -> None:
        """`alone` tells whether no other plugin lives here; it is asked at every refresh, within a turn."""
        self._path = folder / FILE_NAME
        self._previous = folder / PREVIOUS_NAME
        self._boot_id = boot_id
        self._alone = alone
        self._journal_size = journal_size
        self._lock = Lock()
        self._waiting: list[_Change] = []
        self._claims: dict[str, PreparedClaim] = {}
        self._records: dict[str, str] = {}
        self._holders: Holders = {}
        # What file and journal were when this process last read or wrote them: a writing by another one is seen by it.
        self._identity: tuple[_Identity, _Identity] = (None, None)
        # Changes are appended to a journal of this process's own alone.
        self._journal: Journal | None = None
        self._journals = True
        # The number of the journal that the file in place names, and of that which the version before it names.
        self._named: tuple[int | None, int | None] = (None, None)
        self.written_in = ""

    @property
    def exists(self) -> bool:
        """Tell whether there is a file, whatever is in it."""
        return self._path.exists()

    def load(self) -> None:
        """Read file and journal; no file is an empty checkpoint. Raises CheckpointUnreadable, OSError."""
        with self._lock:
            self._read()

    def load_previous(self) -> tuple[PreparedClaim, ...]:
        """Tell the newest claims that can be read, of whatever is left of files and journals. Raises OSError.

        A new file says what the last one and its journal said, so one that is damaged takes nothing along.
        """
        base = self._readable(self._path) or self._readable(self._previous) or Contents(claims=())
        claims = {claim.uid: claim for claim in base.claims}
        for number in sorted(self._journal_numbers()):
            if number >= (base.journal or 0):
                claims = read_journal(self._journal_path(number)).applied(claims.values())
        return tuple(claims.values())

    def set_aside(self) -> Path | None:
        """Keep a copy of the file, and one of its journal, for people to look at. Raises OSError."""
        aside = _set_aside(self._path)
        for number in self._journal_numbers():
            _set_aside(self._journal_path(number))
        return aside

    def rebuild(self, claims: Iterable[PreparedClaim]) -> None:
        """Put these claims in place of whatever the file says; the version before stays what it is. Raises OSError."""
        with self._lock:
            by_uid = {claim.uid: claim for claim in claims}
            self._write(by_uid, {uid: encode_record(claim) for uid, claim in by_uid.items()}, keep_previous=False)

    def begin(self) -> None:
        """Write a new file with all changes in it, and begin a journal; for the start. Raises OSError."""
        with self._lock:
            self._write(self._claims, self._records)

    def fold(self) -> None:
        """Leave a file that needs no journal, for whatever version comes next; for the end. Raises OSError."""
        with self._lock:
            self._journals = False
            if self._named[0] is not None:
                self._write(self._claims, self._records)

    def refresh(self) -> None:
        """Read everything again if somebody else has written it.

        A file that has vanished or is damaged under a living plugin is written again from memory, which was right
        at the last change. Raises OSError.
        """
        with self._lock:
            self._journals = self._alone()
            if self._identity == self._found():
                return
            try:
                lost = self._damaged_journal() or not self._read()
            except CheckpointUnreadable as error:
                lost = True
                log.error("checkpoint_damaged", error=str(error), set_aside=str(self.set_aside()))
            if lost and self._claims:
                self._write(self._claims, self._records, keep_previous=False)

    def get(self, uid: str) -> PreparedClaim | None:
        """Look up one claim."""
        return self._claims.get(uid)

    def claims(self) -> tuple[PreparedClaim, ...]:
        """List all claims, in the order of their preparation."""
        return tuple(self._claims.values())

    def uids(self) -> Set[str]:
        """List the UIDs of all claims."""
        return self._claims.keys()

    def on_cards(self, cards: Collection[str]) -> tuple[PreparedClaim, ...]:
        """List the claims that hold part of any of these cards, by UUID."""
        return on_cards(self._holders, cards)

    def put(self, claim: PreparedClaim) -> None:
        """Record a claim before this returns. Raises OSError, and then nothing has changed."""
        self._carry_out(_Change(claim.uid, claim))

    def remove(self, uid: str) -> None:
        """Forget a claim. Raises OSError, and then nothing has changed."""
        self._carry_out(_Change(uid, None))

    def sync(self) -> None:
        """Make all changes durable that were made before this call. Raises OSError, and then none of them may be."""
        journal = self._journal
        if journal is None:
            # Whole files are durable from the beginning.
            return
        try:
            journal.sync()
        except OSError:
            # What the kernel could not write it may have forgotten: nothing more is built on this file.
            with self._lock:
                if self._journal is journal:
                    self._write(self._claims, self._records)

    def keep_up(self) -> None:
        """What is to be done beside the calls: sync, and take in a journal that has become long. Raises OSError."""
        self.sync()
        with self._lock:
            if self._journal is not None and self._journal.long:
                self._write(self._claims, self._records)

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
            self._append_or_write(batch, claims, records)
        except BaseException as error:  # noqa: BLE001 - raised again by every caller of the batch
            for change in batch:
                change.error = error
        for change in batch:
            change.done = True

    def _append_or_write(self, batch: list[_Change], claims: dict[str, PreparedClaim], records: dict[str, str]) -> None:
        lines = b"".join(
            put_line(records[change.uid]) if change.uid in records else removed_line(change.uid) for change in batch
        )
        if self._journals and not self._has_room(lines):
            # Without the change: so the last two files and their journals tell everything twice.
            self._write(self._claims, self._records)
        if self._journal is not None and self._journals and self._has_room(lines):
            self._journal.append(lines)
            for change in batch:
                self._holders = holders_after(self._holders, self._claims.get(change.uid), claims.get(change.uid))
            self._claims, self._records = claims, records
            # The file is what it was: nobody else writes while it is our turn.
            self._identity = self._identity[0], self._journal.identity
        else:
            self._write(claims, records)

    def _has_room(self, lines: bytes) -> bool:
        return self._journal is not None and self._journal.has_room(lines)

    def _write(
        self, claims: Mapping[str, PreparedClaim], records: Mapping[str, str], *, keep_previous: bool = True
    ) -> None:
        """Write a whole file, durably, and begin a journal if there is to be one."""
        journal = self._new_journal() if self._journals else None
        try:
            if keep_previous:
                self._keep_previous()
            number = None if journal is None else journal.number
            write_whole(self._path, encode(records.values(), boot_id=self._boot_id, journal=number), mode=0o600)
        except BaseException:
            if journal is not None:
                journal.close()
            if self._identity[0] != _identity(self._path):
                # It is in place though perhaps not durably, and names another journal: the next change is a whole file.
                self._use(None)
            raise
        self._claims, self._records, self._holders = dict(claims), dict(records), holders_of(claims.values())
        self._named = (number, self._named[0] if keep_previous else self._journal_of_previous())
        self._identity = self._found()
        self._use(journal)
        self._drop_journals()

    def _use(self, journal: Journal | None) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal = journal

    def _new_journal(self) -> Journal:
        number = 1 + max((*self._journal_numbers(), self._named[0] or 0))
        return Journal(self._journal_path(number), number, self._journal_size)

    def _drop_journals(self) -> None:
        """Remove the journals that neither the file nor the version before it names."""
        for number in self._journal_numbers().difference(self._named):
            with contextlib.suppress(OSError):
                self._journal_path(number).unlink()

    def _keep_previous(self) -> None:
        """Give the file that is about to be replaced a second name."""
        temporary = self._previous.with_name(f".{PREVIOUS_NAME}.tmp")
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.link(self._path, temporary)
            temporary.replace(self._previous)
            # A rename of one name of a file over another does nothing.
            temporary.unlink(missing_ok=True)

    def _read(self) -> bool:
        """Read file and journal; where there is no file, memory is left alone and this tells."""
        self._identity = self._found()
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return False
        sync_file(self._path)
        try:
            contents = decode(content)
        except CheckpointUnreadable as error:
            raise CheckpointUnreadable(f"checkpoint {self._path}: {error}") from error
        claims = {claim.uid: claim for claim in contents.claims}
        if contents.journal is not None:
            read = read_journal(path := self._journal_path(contents.journal))
            if read.damage:
                raise CheckpointUnreadable(f"checkpoint journal {path}: {read.damage}")
            claims = read.applied(contents.claims)
        self._take(contents, claims)
        return True

    def _take(self, contents: Contents, claims: dict[str, PreparedClaim]) -> None:
        """What was read is now what is known; the next change begins a file of this process's own."""
        self._claims, self._holders = claims, holders_of(claims.values())
        self._records = {uid: encode_record(claim) for uid, claim in claims.items()}
        self.written_in = contents.boot_id
        self._named = (contents.journal, self._journal_of_previous())
        self._identity = self._found()
        self._use(None)

    def _damaged_journal(self) -> bool:
        """Tell whether the file is still ours and the journal is not: then memory alone knows the changes."""
        if self._identity[0] != _identity(self._path) or self._journal is None:
            return False
        log.error("checkpoint_journal_damaged", path=str(self._journal.path))
        return True

    def _found(self) -> tuple[_Identity, _Identity]:
        number = self._named[0]
        return _identity(self._path), None if number is None else _identity(self._journal_path(number))

    def _journal_of_previous(self) -> int | None:
        previous = self._readable(self._previous)
        return previous.journal if previous else None

    def _readable(self, path: Path) -> Contents | None:
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except CheckpointUnreadable as error:
            log.warning("checkpoint_unreadable", path=str(path), error=str(error))
            return None

    def _journal_path(self, number: int) -> Path:
        return self._path.with_name(f"checkpoint.{number}.journal")

    def _journal_numbers(self) -> set[int]:
        found = self._path.parent.glob("checkpoint.*.journal")
        return {int(number) for path in found if (number := path.name.split(".")[1]).isdecimal()}


def _identity(path: Path) -> _Identity:
    try:
        return file_identity(path.stat())
    except FileNotFoundError:
        return None


def _set_aside(path: Path) -> Path | None:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except FileNotFoundError:
        return None
    aside = path.with_name(f"checkpoint.damaged-{digest}{path.suffix}")
    with contextlib.suppress(FileExistsError):
        os.link(path, aside)
    return aside
