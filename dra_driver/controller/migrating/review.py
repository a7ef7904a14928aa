"""Answers the API server's question whether a pod is one for HAMi, and what it becomes.

No side effects: the pod is pointed at templates that do not exist yet, and carries them with it. Whoever leads makes
them as soon as the pod is seen (templates.py); a dry run leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog

from dra_driver.controller.admission.features import Feature
from dra_driver.controller.admission.permissions import Permissions
from dra_driver.controller.admission.review import ALLOWED, Answer, Operation, Refusal, Review, Warned
from dra_driver.controller.admission.rules import Reason
from dra_driver.controller.observing import Change, Kind
from dra_driver.errors import ObjectRejected
from dra_driver.kube.connection import Connection
from dra_driver.migration.admission import mutate
from dra_driver.migration.card_sizes import CardSizes
from dra_driver.migration.claiming import Context
from dra_driver.migration.conventions import Convention
from dra_driver.migration.markers import OPT_IN, OPTED_OUT
from dra_driver.migration.template import TemplateSpec

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_NOT_MIGRATABLE = "NotMigratable"
_MIGRATED = "Migrated"


class PodMigration:
    """A Reviewer, and the Observer that knows what it answers from."""

    kinds = frozenset({Kind.SLICES, Kind.NAMESPACES})

    def __init__(
        self,
        connection: Connection,
        *,
        driver: str,
        conventions: Sequence[Convention],
        restricted: Collection[Feature],
    ) -> None:
        """`restricted`: what a namespace needs a label for."""
        self._driver = driver
        self._conventions = tuple(conventions)
        self._sizes = CardSizes(driver=driver)
        self._permissions = Permissions(connection, restricted)

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """See Observer."""
        gone = change is Change.DELETED
        if kind is Kind.NAMESPACES:
            (self._permissions.gone if gone else self._permissions.saw)(wire)
        elif gone:
            self._sizes.gone(_name(wire))
        else:
            try:
                self._sizes.saw(wire)
            except ObjectRejected as error:
                log.warning("object_unreadable", object=kind.value, name=_name(wire), error=str(error))

    async def act(self) -> None:
        """See Observer. Answering is all there is, and that both replicas do."""

    async def review(self, review: Review) -> Answer:
        """See Reviewer."""
        if review.new is None or review.operation is not Operation.CREATE or _opted_out(review.new):
            return ALLOWED
        context = Context(self._driver, self._conventions, self._sizes.by_vendor())
        try:
            mutation = mutate(review.new, context, subject=review.subject)
        except ObjectRejected as error:
            return Answer(Refusal(_NOT_MIGRATABLE, f"{error.path}: {error.problem}"))
        refusal = await self._not_permitted(review.namespace, mutation.templates.values())
        if refusal is not None:
            return Answer(refusal)
        return Answer(warnings=tuple(Warned(_MIGRATED, text) for text in mutation.warnings), patch=mutation.patch)

    async def _not_permitted(self, namespace: str, templates: Collection[TemplateSpec]) -> Refusal | None:
        """Say at once what the templates would be refused for, when nobody listens any more."""
        high = any(
            config.opaque.parameters.get("priority") == "high" for spec in templates for config in spec.devices.config
        )
        feature = Feature.HIGH_PRIORITY
        if not high or await self._permissions.allows(namespace, feature):
            return None
        message = (
            f"priority 0 (high) is not allowed in namespace {namespace}; whoever runs the cluster can allow it with "
            f"the namespace's label {feature.label}=true"
        )
        return Refusal(Reason.HIGH_PRIORITY, message, HTTPStatus.FORBIDDEN)


def _opted_out(wire: Mapping[str, Any]) -> bool:
    labels = (wire.get("metadata") or {}).get("labels") or {}
    return bool(labels.get(OPT_IN) == OPTED_OUT)


def _name(wire: Mapping[str, Any]) -> str:
    return str((wire.get("metadata") or {}).get("name", ""))
