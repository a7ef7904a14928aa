"""The Secret in which the replicas share their certificates.

It is part of the installation and empty at first, so that no right to create Secrets is needed: with that right one
could make oneself the token of any account of the namespace. The first writer fills it; whoever comes second finds that
it has changed (its resourceVersion) and takes what is there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from dra_driver.controller.admission.certificates import Pair
from dra_driver.controller.admission.rotating import Kept
from dra_driver.kube.connection import Connection, JsonObject

NAME = "hami-dra-admission"
_BUNDLE = "ca.crt"
_SERVING = ("tls.crt", "tls.key")
_STAGED = ("next.crt", "next.key")


@dataclass(frozen=True)
class Stored:
    """What the Secret holds, and the object as it was read."""

    kept: Kept
    wire: JsonObject


class CertificateSecret:
    """Reads and writes the Secret."""

    def __init__(self, connection: Connection, *, namespace: str) -> None:
        self._connection = connection
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{NAME}"

    async def read(self) -> Stored:
        """Read it. Raises KubeError; NotFound where the installation lacks it."""
        return _stored(await self._connection.request("GET", self._path))

    async def write(self, stored: Stored, kept: Kept) -> Stored:
        """Keep something else, if nobody has written since. Raises KubeError; Conflict where somebody has."""
        wire = {**stored.wire, "data": _encoded(kept)}
        return _stored(await self._connection.request("PUT", self._path, body=wire))


def _stored(wire: JsonObject) -> Stored:
    content = {name: _decoded(text) for name, text in (wire.get("data") or {}).items()}
    return Stored(Kept(content.get(_BUNDLE, b""), _pair(content, *_SERVING), _pair(content, *_STAGED)), wire)


def _pair(content: Mapping[str, bytes], certificate: str, key: str) -> Pair | None:
    if not content.get(certificate) or not content.get(key):
        return None
    return Pair(content[certificate], content[key])


def _decoded(text: str) -> bytes:
    """What somebody has put there by hand need not make sense; it is then replaced like what has ended."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _encoded(kept: Kept) -> dict[str, str]:
    content = {_BUNDLE: kept.bundle}
    for (certificate, key), pair in ((_SERVING, kept.serving), (_STAGED, kept.staged)):
        if pair is not None:
            content |= {certificate: pair.certificate, key: pair.key}
    return {name: base64.b64encode(value).decode() for name, value in content.items()}
