"""Where the certificate that is served comes from: the Secret of the replicas, or files that others keep.

Both are asked again and again, so that a new certificate is served without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from dra_driver.controller.admission.certificates import Pair, belongs, utc_now, valid_authorities
from dra_driver.controller.admission.rotating import Terms, begun
from dra_driver.controller.admission.secret import CertificateSecret
from dra_driver.errors import HamiDraError
from dra_driver.kube.errors import Conflict

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class CertificateUnusable(HamiDraError):
    """What lies where the certificate should be cannot be served. Retriable: it may be replaced."""

    retriable = True


class Source(Protocol):
    """Where the certificate comes from."""

    async def current(self) -> Pair:
        """Return what should be served now. Raises KubeError, CertificateUnusable."""
        ...


class SecretSource:
    """The replicas' own: whichever comes first makes it."""

    def __init__(self, secret: CertificateSecret, terms: Terms, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._secret = secret
        self._terms = terms
        self._clock = clock

    async def current(self) -> Pair:
        """See Source."""
        while True:
            stored = await self._secret.read()
            first = begun(stored.kept, self._terms, now=self._clock())
            if first is None:
                assert stored.kept.serving is not None  # begun() found nothing wrong with it
                return stored.kept.serving
            try:
                await self._secret.write(stored, first)
            except Conflict:
                # The other replica was first: what it wrote is read next.
                continue
            log.info("certificate_made", names=list(self._terms.names))


class FolderSource:
    """Files as cert-manager makes them and the kubelet mounts them: tls.crt, tls.key and perhaps ca.crt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def current(self) -> Pair:
        """See Source."""
        return await asyncio.to_thread(self._read)

    async def authority(self) -> bytes | None:
        """Return whom callers should trust; None where the folder does not say. Raises CertificateUnusable."""
        return await asyncio.to_thread(self._read_authority)

    def _read_authority(self) -> bytes | None:
        path = self._folder / "ca.crt"
        try:
            bundle = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CertificateUnusable(f"setting certificate_folder: {error}") from error
        try:
            if valid_authorities(bundle, now=utc_now()):
                return bundle
        except ValueError as error:
            raise CertificateUnusable(f"setting certificate_folder: {path}: {error}") from error
        raise CertificateUnusable(f"setting certificate_folder: {path} holds no certificate that is still good")

    def _read(self) -> Pair:
        try:
            pair = Pair((self._folder / "tls.crt").read_bytes(), (self._folder / "tls.key").read_bytes())
        except OSError as error:
            raise CertificateUnusable(f"setting certificate_folder: {error}") from error
        if not belongs(pair):
            raise CertificateUnusable(f"setting certificate_folder: {self._folder}: tls.key is not the key of tls.crt")
        return pair
