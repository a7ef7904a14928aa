"""Writes image archives (docker-archive) byte for byte the same for the same content.

An archive's name in the cache is a hash of its recipe, and containerd recognises layers by their hash:
both only help if a second build gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class File:
    """A regular file of a layer."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    """A symbolic link of a layer."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A folder that must be there, or needs another mode than 0755."""

    mode: int = 0o755


Entry = File | Link | Folder


@dataclass(frozen=True)
class ImageConfig:
    """What a container of the image starts with."""

    name: str
    """With tag, such as `hami-dra.test/probe:1`."""
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def layer(entries: Mapping[str, Entry]) -> bytes:
    """A layer as an uncompressed tar; keys are paths without a leading slash. Parents are added."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in sorted(_with_parents(entries).items()):
            member = tarfile.TarInfo(path)
            if isinstance(entry, File):
                member.mode, member.size = entry.mode, len(entry.content)
                tar.addfile(member, io.BytesIO(entry.content))
                continue
            if isinstance(entry, Link):
                member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, entry.target
            else:
                member.type, member.mode = tarfile.DIRTYPE, entry.mode
            tar.addfile(member)
    return buffer.getvalue()


def _with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    whole: dict[str, Entry] = {}
    for path in entries:
        for parent in Path(path).parents:
            if str(parent) != ".":
                whole[str(parent)] = Folder()
    return {**whole, **entries}


def write(target: Path, config: ImageConfig, layers: Sequence[bytes]) -> Path:
    """Writes the archive of an image; it appears under its name in one step."""
    digests = [hashlib.sha256(one).hexdigest() for one in layers]
    settings = json.dumps(_image_settings(config, digests), sort_keys=True).encode()
    config_name = f"{hashlib.sha256(settings).hexdigest()}.json"
    manifest = [
        {
            "Config": config_name,
            "RepoTags": [config.name],
            "Layers": [f"{digest}/layer.tar" for digest in digests],
        }
    ]
    members = {f"{digest}/layer.tar": one for digest, one in zip(digests, layers, strict=True)}
    members |= {config_name: settings, "manifest.json": json.dumps(manifest).encode()}
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=target.parent, prefix=".image-")
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    Path(fresh).replace(target)
    return target


def _image_settings(config: ImageConfig, digests: Sequence[str]) -> dict[str, object]:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **config.environment}
    return {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {
            "Cmd": list(config.command),
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created_by": "hami-dra tests/cluster/images"} for _ in digests],
    }


def recipe_hash(*parts: bytes | str) -> str:
    """A name for what is made from these parts."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(hashlib.sha256(encoded).digest())
    return digest.hexdigest()[:16]
