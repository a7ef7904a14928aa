"""Knowing that a step is done: a file that holds the hash of everything the step was made from.

Times of files say nothing after a clone or a change of branch; contents do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def fingerprint(files: Iterable[Path], words: Iterable[str] = ()) -> str:
    """Hash files by content and words as they are; a missing file raises FileNotFoundError."""
    digest = hashlib.sha256()
    for part in [*(file.read_bytes() for file in files), *(word.encode() for word in words)]:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


class Stamp:
    """The recorded fingerprint of one finished step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def holds(self, value: str) -> bool:
        return self.path.is_file() and self.path.read_text(encoding="ascii").strip() == value

    def clear(self) -> None:
        """To be called before the work begins: half-done work is not done."""
        self.path.unlink(missing_ok=True)

    def write(self, value: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(value + "\n", encoding="ascii")
