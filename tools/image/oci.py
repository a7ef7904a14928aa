"""Writes images as OCI archives: one tar with an index, from which a runtime takes the image of its architecture.

Layout and media types: OCI image specification 1.1 (image-layout, image-index, manifest, config).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""As compilers spell it → as images do."""
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_OCI = "application/vnd.oci.image"
_INDEX, _MANIFEST, _CONFIG = f"{_OCI}.index.v1+json", f"{_OCI}.manifest.v1+json", f"{_OCI}.config.v1+json"
_NAME = "io.containerd.image.name"
_REFERENCE = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Layer:
    """A layer as it lies in the archive, and the hash of its bytes when unpacked."""

    blob: bytes
    diff_id: str
    media_type: str

    @classmethod
    def plain(cls, tar: bytes) -> Layer:
        """Uncompressed: for images that only travel to a runtime on this machine."""
        return cls(tar, _digest(tar), f"{_OCI}.layer.v1.tar")

    @classmethod
    def compressed(cls, tar: bytes) -> Layer:
        """With gzip, without a time stamp, so that the bytes stay the same."""
        return cls(gzip.compress(tar, 6, mtime=0), _digest(tar), f"{_OCI}.layer.v1.tar+gzip")


@dataclass(frozen=True)
class Image:
    """One architecture's image."""

    architecture: str
    """As compilers spell it."""
    layers: Sequence[Layer]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes to be transferred."""
        return sum(len(layer.blob) for layer in self.layers)


def write(target: Path, name: str, images: Sequence[Image]) -> str:
    """Write the archive, which appears under its path in one step.

    `name` is the full name with tag, such as `hami-dra.test/probe:1`. Returns the digest of the image's index: what
    a registry would call it.
    """
    blobs: dict[str, bytes] = {}
    manifests = [_manifest(image, blobs) for image in images]
    index = _store(blobs, _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}), _INDEX)
    named = {**index, "annotations": {_NAME: name, _REFERENCE: name.rpartition(":")[2]}}
    entry = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [named]})
    files = {f"blobs/{digest.replace(':', '/')}": blob for digest, blob in sorted(blobs.items())}
    _write_tar(target, {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": entry, **files})
    digest: str = index["digest"]
    return digest


def _manifest(image: Image, blobs: dict[str, bytes]) -> dict[str, Any]:
    platform = {"architecture": ARCHITECTURES[image.architecture], "os": "linux"}
    config = _store(blobs, _json({**platform, **_config(image)}), _CONFIG)
    layers = [_store(blobs, layer.blob, layer.media_type) for layer in image.layers]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
    return {**_store(blobs, _json(manifest), _MANIFEST), "platform": platform}


def _config(image: Image) -> dict[str, Any]:
    environment = {"PATH": PATH, **image.environment}
    wanted = {
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.command),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "User": image.user,
        "Labels": dict(image.labels),
        "WorkingDir": "/",
    }
    return {
        "config": {key: value for key, value in wanted.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
        "history": [{"created_by": "hami-dra tools/image"} for _ in image.layers],
    }


def _store(blobs: dict[str, bytes], blob: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(blob)
    blobs[digest] = blob
    return {"mediaType": media_type, "digest": digest, "size": len(blob)}


def _write_tar(target: Path, members: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=target.parent, prefix=".image-")
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path = Path(fresh)
    # mkstemp makes a file for its owner alone; an image is no secret.
    path.chmod(0o644)
    path.replace(target)


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
