"""Putting libvgpu.so on the host, under a path that names its content.

Containers map the library for as long as they run, so a file in use is never written again: a new version gets
a new path, and the CDI device of each version stays for as long as a prepared claim may name it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Set
from pathlib import Path

from dra_driver.cdi.render import CONTAINER_LIBRARY, ShimFiles, shim_spec
from dra_driver.cdi.store import CdiStore
from dra_driver.errors import ShimMissing
from drivers.files import write_whole

_LIBRARY = "libvgpu.so"
_PRELOAD = "ld.so.preload"
_SPEC = "shim-"


def install_shim(source: Path, state: Path, cdi: CdiStore, *, driver: str) -> ShimFiles:
    """Install the library from `source` below `state`, and describe it in a CDI spec. Idempotent.

    Raises:
        ShimMissing: there is no readable library at `source`.
        OSError: the state folder or the CDI folder cannot be written.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ShimMissing(f"shim library {source}: {error.strerror}") from error
    version = hashlib.sha256(content).hexdigest()[:16]
    folder = state / "lib" / version
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    _place(folder / _LIBRARY, content, mode=0o755)
    _place(folder / _PRELOAD, f"{CONTAINER_LIBRARY}\n".encode(), mode=0o644)
    files = ShimFiles(version, str(folder / _LIBRARY), str(folder / _PRELOAD))
    cdi.write(f"{_SPEC}{version}", shim_spec(driver, files))
    return files


def remove_unused_shims(state: Path, cdi: CdiStore, *, used: Set[str]) -> None:
    """Remove versions that no prepared claim names; a container that maps one belongs to a claim that does."""
    for name in cdi.names():
        version = name.removeprefix(_SPEC)
        if name.startswith(_SPEC) and version not in used:
            cdi.remove(name)
    for folder in (state / "lib").iterdir():
        if folder.name not in used:
            shutil.rmtree(folder)


def _place(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file unless it is there already, whole: its path or folder names its content."""
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content, mode=mode)
