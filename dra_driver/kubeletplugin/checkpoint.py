"""The plugin's own memory of what it has prepared: one file, whole at any moment, checked when it is read.

The file is versioned and carries a checksum. It is written beside its place, synced and renamed, before and
after every effect, so that whatever happens the next start finds either the state before or the one after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from threading import Lock

from pydantic import BaseModel, ConfigDict, ValidationError

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kube.claims import ClaimRef
from drivers.files import write_whole

VERSION = 1
FILE_NAME = "checkpoint.json"


class State(StrEnum):
    """How far a claim's preparation has come."""

    STARTED = "STARTED"
    COMPLETED = "COMPLETED"


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class PreparedShare(_Record):
    """One share, with all that the kubelet is told and all that is needed to undo it.

    `memory` in bytes, `cores` in percent. `whole` marks a device that was allocated without a share.
    """

    key: str
    request: str
    pool: str
    device: str
    share_id: str | None
    vendor: str
    device_uuid: str
    memory: int
    cores: int
    whole: bool
    cdi_devices: tuple[str, ...] = ()


class PreparedClaim(_Record):
    """One claim. `boot_id` is the kernel's: after a reboot nothing of the effects can be relied on."""

    uid: str
    namespace: str
    name: str
    state: State
    boot_id: str
    shares: tuple[PreparedShare, ...]

    @property
    def ref(self) -> ClaimRef:
        """The claim as the kubelet names it."""
        return ClaimRef(self.namespace, self.name, self.uid)


class _File(_Record):
    version: int
    claims: tuple[PreparedClaim, ...]


class Checkpoint:
    """The prepared claims by UID, on disk and in memory. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._lock = Lock()
        self._claims: dict[str, PreparedClaim] = {}

    def load(self) -> None:
        """Read the file; no file is an empty checkpoint. Raises CheckpointUnreadable, OSError."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        with self._lock:
            self._claims = {claim.uid: claim for claim in _decode(self._path, content)}

    def get(self, uid: str) -> PreparedClaim | None:
        """Look up one claim."""
        with self._lock:
            return self._claims.get(uid)

    def claims(self) -> tuple[PreparedClaim, ...]:
        """List all claims, in the order of their preparation."""
        with self._lock:
            return tuple(self._claims.values())

    def put(self, claim: PreparedClaim) -> None:
        """Record a claim, durably, before this returns. Raises OSError, and then nothing has changed."""
        with self._lock:
            self._save({**self._claims, claim.uid: claim})

    def remove(self, uid: str) -> None:
        """Forget a claim, durably. Raises OSError, and then nothing has changed."""
        with self._lock:
            self._save({key: claim for key, claim in self._claims.items() if key != uid})

    def _save(self, claims: Mapping[str, PreparedClaim]) -> None:
        write_whole(self._path, _encode(claims), mode=0o600)
        self._claims = dict(claims)


def _encode(claims: Mapping[str, PreparedClaim]) -> bytes:
    content = _File(version=VERSION, claims=tuple(claims.values())).model_dump_json()
    return f"{_checksum(content.encode())}\n{content}\n".encode()


def _decode(path: Path, raw: bytes) -> tuple[PreparedClaim, ...]:
    checksum, _, content = raw.partition(b"\n")
    content = content.removesuffix(b"\n")
    if checksum.decode(errors="replace") != _checksum(content):
        raise CheckpointUnreadable(f"checkpoint {path}: the checksum does not match the content")
    try:
        version = json.loads(content).get("version")
        if version != VERSION:
            raise CheckpointUnreadable(f"checkpoint {path}: version: {version} is not {VERSION}")
        return _File.model_validate_json(content).claims
    except (ValidationError, ValueError, AttributeError) as error:
        raise CheckpointUnreadable(f"checkpoint {path}: {error}") from error


def _checksum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
