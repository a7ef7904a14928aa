"""Manifests as users keep them: files and folders, YAML and JSON, several documents, lists of objects."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dra_driver.errors import SettingsRejected

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True)
class Manifest:
    """One object, and where it was read."""

    source: str
    wire: dict[str, Any]

    @property
    def subject(self) -> str:
        """The object in words."""
        metadata = self.wire.get("metadata") or {}
        name = metadata.get("name") or f"{metadata.get('generateName', '')}…"
        namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
        return f"{self.source}: {self.wire.get('kind', 'object')} {namespace}{name}"


def read_manifests(places: Sequence[str]) -> tuple[Manifest, ...]:
    """Read files, folders (not what lies in folders below) and `-`. Raises SettingsRejected with the place."""
    found = tuple(manifest for place in places for file in _files(place) for manifest in _manifests(file))
    if not found:
        raise SettingsRejected(f"{', '.join(places)}: no object in it")
    return found


def _files(place: str) -> Iterator[Path]:
    path = Path(place)
    if place == "-" or not path.is_dir():
        yield path
        return
    yield from sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def _manifests(file: Path) -> Iterator[Manifest]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        documents = [json.loads(text)] if file.suffix == ".json" else list(yaml.safe_load_all(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsRejected(f"{file}: {error}") from error
    for wire in _objects(documents):
        named = isinstance(wire, dict) and isinstance(wire.get("kind"), str)
        if not named or not isinstance(wire.get("metadata") or {}, dict):
            raise SettingsRejected(f"{file}: it holds something that is no Kubernetes object")
        yield Manifest(str(file), wire)


def _objects(documents: Iterable[Any]) -> Iterator[Any]:
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from _objects(document.get("items") or ())
        elif document is not None:
            yield document
