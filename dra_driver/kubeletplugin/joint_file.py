"""A small file that the plugins of one node keep together, since an update lets two of them live side by side.

A change is made to what the file says, not to what this process remembers of it, and under a lock that the kernel
takes back when its holder dies. Such a file is a convenience: where it cannot be read, written or locked in time,
the plugin goes on with what it knows, and says so.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from drivers.files import write_whole

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T", bound=BaseModel)

# A change takes milliseconds; a plugin that was stopped in the middle of one must not stop the other too.
_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 0.005

_Identity = tuple[int, int, int]


class JointFile(Generic[T]):
    """One file of one kind of content. Blocks; to be used by one thread at a time."""

    def __init__(self, path: Path | None, content: type[T]) -> None:
        """`path`: None keeps nothing."""
        self._path = path
        self._content = content
        self._seen: _Identity | None = None
        self.behind = False
        """Whether the file lacks what could not be written: then memory is newer."""

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep the other plugin from changing the file meanwhile; `news` comes first in it, then `write`."""
        descriptor = self._locked()
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def news(self) -> T | None:
        """Read the file if it says something that this process has neither read nor written."""
        if self._path is None or self.behind:
            return None
        try:
            identity = _identity(self._path)
            if identity is None or identity == self._seen:
                return None
            self._seen = identity
            return self._content.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.error("joint_file_unreadable", path=str(self._path), error=str(error))
            return None

    def write(self, content: T) -> None:
        """Write the file whole."""
        if self._path is None:
            return
        try:
            write_whole(self._path, content.model_dump_json().encode(), mode=0o600)
            self._seen = _identity(self._path)
        except OSError as error:
            if not self.behind:
                log.error("joint_file_not_written", path=str(self._path), error=str(error))
            self.behind = True
        else:
            self.behind = False

    def _locked(self) -> int | None:
        """Return a descriptor that holds the lock; None where it cannot be had."""
        if self._path is None:
            return None
        lock = self._path.with_suffix(".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.error("joint_file_not_locked", path=str(lock), error=str(error))
            return None
        if _wait_for(descriptor):
            return descriptor
        os.close(descriptor)
        log.error("joint_file_not_locked", path=str(lock), error=f"held for {_PATIENCE_SECONDS:.0f} s by another")
        return None


def _wait_for(descriptor: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE_SECONDS)
    return False


def _identity(path: Path) -> _Identity | None:
    """Tell one writing of the file from the next; a writing is always a new file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
