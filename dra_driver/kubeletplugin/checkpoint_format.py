"""How the checkpoint is written in its file, and how a file of another version is read.

A node is updated and set back while pods run, so a plugin must make sense of what the version before it and the
version after it wrote. An older document is brought up step by step. A newer one says how it can be read: either it
only adds fields (`oldest_reader` is not above the reader's version), or it carries the same claims once more as a
document of the version before (`earlier`).

Version 2 may name a journal (journal.py), which has the changes since. A reader that knows of no journals must not
take such a file for the whole, so the file says whose it is: one that names a journal is for readers of version 2,
one that does not is for those of version 1 too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kube.claims import ClaimRef

VERSION = 2
_WITHOUT_JOURNALS = 1

Document = dict[str, Any]


class State(StrEnum):
    """How far a claim's preparation has come.

    STARTED: effects are being made or taken back, and may be there in part.
    COMPLETED: all effects are there, and the kubelet may have been told of them.
    """

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

    @cached_property
    def ref(self) -> ClaimRef:
        """The claim as the kubelet names it."""
        return ClaimRef(self.namespace, self.name, self.uid)

    @property
    def may_be_in_use(self) -> bool:
        """Tell whether the kubelet may have been told of its devices, so that containers may run on them."""
        return any(share.cdi_devices for share in self.shares)


class Contents(_Record):
    """What the file tells.

    `boot_id` is the boot in which it was written, "" where it does not say; `journal` the number of the journal that
    has the changes since, if there is one.
    """

    claims: tuple[PreparedClaim, ...]
    boot_id: str = ""
    journal: int | None = None


@dataclass(frozen=True)
class Format:
    """A version, and for each earlier one the step from it to its successor."""

    version: int = VERSION
    upgrades: Mapping[int, Callable[[Document], Document]] = field(default_factory=dict)


CURRENT = Format(upgrades={1: lambda document: {**document, "version": 2}})


def encode_record(claim: PreparedClaim) -> str:
    """Write one claim; `encode` puts such texts together, so that a change of one costs the writing of one."""
    return claim.model_dump_json()


def decode_record(text: str) -> PreparedClaim:
    """Read one claim. Raises CheckpointUnreadable."""
    try:
        return PreparedClaim.model_validate_json(text)
    except ValidationError as error:
        raise CheckpointUnreadable(f"record of a claim: {error}") from error


def encode(records: Iterable[str], *, boot_id: str = "", journal: int | None = None) -> bytes:
    """Write the file: a line with the checksum of the rest, and the document."""
    head = f'"version":{VERSION},"oldest_reader":{_WITHOUT_JOURNALS if journal is None else VERSION}'
    named = "" if journal is None else f',"journal":{journal}'
    content = f'{{{head},"boot_id":{json.dumps(boot_id)}{named},"claims":[{",".join(records)}]}}'.encode()
    return b"%s\n%s\n" % (_checksum(content), content)


def decode(raw: bytes, *, reader: Format = CURRENT) -> Contents:
    """Read the file. Raises CheckpointUnreadable: damaged, or of a version that this reader cannot follow."""
    checksum, _, content = raw.partition(b"\n")
    content = content.removesuffix(b"\n")
    if checksum != _checksum(content):
        raise CheckpointUnreadable("the checksum does not match the content")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointUnreadable(str(error)) from error
    return read_document(document, reader=reader)


def read_document(document: Any, *, reader: Format = CURRENT) -> Contents:
    """Read a document of any version that this reader can follow. Raises CheckpointUnreadable."""
    try:
        return Contents.model_validate(_for_reader(document, reader))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointUnreadable(str(error)) from error


def _for_reader(found: Any, reader: Format) -> Document:
    document: Document = found if isinstance(found, dict) else {}
    if not isinstance(document.get("version"), int):
        raise CheckpointUnreadable("version: there is none")
    version: int = document["version"]
    if version > reader.version:
        return _of_later_version(document, reader)
    while version < reader.version:
        if version not in reader.upgrades:
            raise CheckpointUnreadable(f"version: {version} is too old for {reader.version}")
        document = reader.upgrades[version](document)
        version += 1
    return document


def _of_later_version(document: Document, reader: Format) -> Document:
    oldest_reader = document.get("oldest_reader")
    if isinstance(oldest_reader, int) and oldest_reader <= reader.version:
        return document
    if "earlier" in document:
        return _for_reader(document["earlier"], reader)
    raise CheckpointUnreadable(
        f"version: {document['version']} is not {reader.version}, and says nothing to its reader"
    )


def _checksum(content: bytes) -> bytes:
    return b"sha256:" + hashlib.sha256(content).hexdigest().encode()
