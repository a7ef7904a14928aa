"""Files that are either whole or not there, also after a crash or a power cut; and those that need not be."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int, durable: bool = True) -> None:
    """Put a file in place at once: written beside its place, synced, renamed, and the folder synced.

    The temporary name is always the same, so that what a crash leaves is used up by the next write; a file has one
    writer at a time. `mode` holds whatever the umask. Without `durable` it is not synced: whole for every process
    that looks, but a power cut may undo or cut it, which suits what a reboot makes void or is made again after it.
    Raises OSError, and then the file is what it was.
    """
    temporary = _temporary(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        # The umask must not decide who can read a file that is mounted into containers.
        os.fchmod(descriptor, mode)
        _write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException as error:
        name_file(error, path)
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    if durable:
        sync_folder(path.parent)


def write_new(path: Path, content: bytes | bytearray, *, mode: int, size: int = 0) -> None:
    """Write a file that is not there yet and that nobody looks for before this returns.

    What is missing to `size` bytes is zeros, with their room on the disk: whoever maps the file can write all of it.
    Not synced, and a crash may leave a part of it: for files that are known by their size. `mode` holds whatever the
    umask. Raises OSError, and then there may be a part of it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, mode)
    try:
        os.fchmod(descriptor, mode)
        _write_all(descriptor, content)
        if size:
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        os.close(descriptor)


def write_into(path: Path, content: bytes, *, offset: int = 0) -> None:
    """Write into a file that is there and that nobody looks at yet. Not synced. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        write_at(descriptor, content, offset)
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        os.close(descriptor)


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of `content` at `offset`; the system may take it in parts. Raises OSError."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _write_all(descriptor: int, content: bytes | bytearray) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def name_file(error: BaseException, path: Path) -> None:
    """Name the file: an error of a descriptor, such as that the disk is full, does not."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def remove_whole(path: Path) -> bool:
    """Remove a file that `write_whole` wrote, and what a crash left of one; tells whether there was a file.

    Not synced. Raises OSError.
    """
    with contextlib.suppress(IsADirectoryError):
        # A folder of that name is none of ours.
        _temporary(path).unlink(missing_ok=True)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder, usually one of files alone; none is a success. Not synced. Raises OSError."""
    try:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    except FileNotFoundError:
        return
    except IsADirectoryError:
        shutil.rmtree(folder)


def make_closed_folder(folder: Path) -> None:
    """Make a folder that is closed to other users, or close one that is there. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)


def remove_any(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def sync_file(path: Path) -> None:
    """Make the content of a file durable that somebody may have written without that. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
