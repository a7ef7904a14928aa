"""Reads image archives back, to see what a container of them would find."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImageRead:
    """An image of an OCI archive."""

    name: str
    config: dict[str, Any]
    layers: tuple[dict[str, tarfile.TarInfo], ...]
    contents: tuple[bytes, ...]
    """The layers' bytes, unpacked."""

    def file(self, path: str) -> bytes:
        """The content of a file, of the uppermost layer that has it."""
        for content in reversed(self.contents):
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                if path in tar.getnames():
                    return (tar.extractfile(path) or io.BytesIO()).read()
        raise FileNotFoundError(path)


def read(archive: Path, architecture: str = "amd64") -> ImageRead:
    """The image of an architecture, as containerd spells it."""
    with tarfile.open(archive) as tar:

        def blob(descriptor: dict[str, Any]) -> bytes:
            return (tar.extractfile(f"blobs/{descriptor['digest'].replace(':', '/')}") or io.BytesIO()).read()

        (entry,) = json.load(tar.extractfile("index.json") or io.BytesIO())["manifests"]
        platforms = {one["platform"]["architecture"]: one for one in json.loads(blob(entry))["manifests"]}
        manifest = json.loads(blob(platforms[architecture]))
        config = json.loads(blob(manifest["config"]))
        contents = tuple(_unpacked(blob(layer)) for layer in manifest["layers"])
    return ImageRead(entry["annotations"]["io.containerd.image.name"], config, tuple(map(members, contents)), contents)


def members(content: bytes) -> dict[str, tarfile.TarInfo]:
    """A layer's entries by path."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: member for member in tar}


def _unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
