"""Admission as a part of the controller: served on both replicas, its certificates kept by the active one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from dra_driver.controller.admission.certificates import facts
from dra_driver.controller.admission.features import Feature
from dra_driver.controller.admission.metrics import AdmissionMetrics
from dra_driver.controller.admission.permissions import Permissions
from dra_driver.controller.admission.reach import Reach
from dra_driver.controller.admission.review import Reviewer
from dra_driver.controller.admission.rotating import Terms
from dra_driver.controller.admission.rotation import Pace, Rotation, keep_told
from dra_driver.controller.admission.rules import ObjectRules
from dra_driver.controller.admission.secret import CertificateSecret
from dra_driver.controller.admission.server import AdmissionServer, ServerCertificate
from dra_driver.controller.admission.sources import FolderSource, SecretSource, Source
from dra_driver.controller.admission.webhooks import Webhooks
from dra_driver.controller.observing import Change, Kind
from dra_driver.controller.settings import ControllerSettings
from dra_driver.errors import HamiDraError, SettingsRejected
from dra_driver.kube.connection import Connection

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

VALIDATE = "validate"
MUTATE = "mutate"


class Admission:
    """An Observer, and a server on each replica."""

    kinds = frozenset({Kind.SLICES, Kind.CLASSES, Kind.NAMESPACES})

    def __init__(
        self,
        settings: ControllerSettings,
        connection: Connection,
        leading: Connection,
        registry: CollectorRegistry,
        *,
        mutation: Reviewer | None = None,
    ) -> None:
        """`leading` writes only while this replica leads. `mutation` answers under /mutate, if anybody does."""
        self._settings = settings
        self._reach = Reach(driver=settings.driver_name)
        self._permissions = Permissions(connection, frozenset(map(Feature, settings.restricted)))
        # The first certificate is made by whichever replica comes first: both serve.
        self._secret = CertificateSecret(connection, namespace=settings.namespace)
        self._leaders_secret = CertificateSecret(leading, namespace=settings.namespace)
        self._webhooks = Webhooks(leading, failure_policy=settings.admission_failure_policy)
        self._terms = Terms(_names(settings), timedelta(seconds=settings.certificate_seconds))
        self._pace = Pace.for_lifetime(settings.certificate_seconds)
        self._metrics = AdmissionMetrics(registry)
        self._certificate = ServerCertificate()
        rules = ObjectRules(driver=settings.driver_name, permissions=self._permissions, reach=self._reach)
        self._server = AdmissionServer(
            settings.admission_address,
            reviewers={VALIDATE: rules, **({MUTATE: mutation} if mutation else {})},
            certificate=self._certificate,
            metrics=self._metrics,
        )
        self.serving = asyncio.Event()
        """Set once reviews are answered."""

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """See Observer."""
        gone = change is Change.DELETED
        taken = {
            Kind.SLICES: self._reach.slice_gone if gone else self._reach.saw_slice,
            Kind.CLASSES: self._reach.class_gone if gone else self._reach.saw_class,
            Kind.NAMESPACES: self._permissions.gone if gone else self._permissions.saw,
        }.get(kind)
        try:
            if taken is not None:
                taken(wire)
        except (ValidationError, AttributeError, TypeError, ValueError) as error:
            log.warning("object_unreadable", kind=kind.value, name=_name(wire), error=str(error))

    async def act(self) -> None:
        """See Observer."""
        if self._settings.certificate_folder:
            folder = FolderSource(Path(self._settings.certificate_folder))
            await keep_told(self._webhooks, folder.authority, self._pace)
        else:
            await Rotation(self._leaders_secret, self._webhooks, self._terms, self._pace).run()

    async def run(self) -> None:
        """Serve on this replica until cancelled. Raises SettingsRejected where the address cannot be had."""
        source = self._source()
        try:
            while True:
                await self._look(source)
                await asyncio.sleep(self._pace.look)
        finally:
            self.serving.clear()
            await self._server.stop()

    def _source(self) -> Source:
        if self._settings.certificate_folder:
            return FolderSource(Path(self._settings.certificate_folder))
        return SecretSource(self._secret, self._terms)

    async def _look(self, source: Source) -> None:
        """Serve the certificate of the moment. The one before is served on where there is no better one."""
        try:
            pair = await source.current()
            if self._certificate.use(pair):
                told = facts(pair.certificate)
                self._metrics.serves_until(_origin(self._settings), told.ends.timestamp())
                log.info("certificate_served", ends=told.ends.isoformat(), names=sorted(told.names))
            if not self.serving.is_set():
                log.info("admission_serving", address=await self._server.start())
                self.serving.set()
        except SettingsRejected:
            raise
        except HamiDraError as error:
            log.warning("certificate_not_served", error=str(error), retry_seconds=self._pace.look)


def _names(settings: ControllerSettings) -> tuple[str, ...]:
    return f"{settings.webhook_service}.{settings.namespace}.svc", *settings.admission_names


def _origin(settings: ControllerSettings) -> str:
    return "folder" if settings.certificate_folder else "secret"


def _name(wire: Mapping[str, Any]) -> str:
    metadata = wire.get("metadata")
    return str(metadata.get("name", "?")) if isinstance(metadata, dict) else "?"
