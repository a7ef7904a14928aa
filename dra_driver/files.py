"""Files that are either whole or not there, also after a crash or a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TEMPORARY = ".tmp"


def write_whole(path: Path, content: bytes, *, mode: int) -> None:
    """Put a file in place at once: written beside its place, synced, renamed, and the folder synced."""
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        # The umask must not decide who can read a file that is mounted into containers.
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
