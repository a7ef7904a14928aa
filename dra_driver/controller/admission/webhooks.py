"""The webhook configurations: whom the API server trusts when it calls, and what it does when nobody answers.

They are part of the installation. What only the controller knows (the authorities of the certificate that it serves)
or what is a setting of it (the failure policy) is written into them, and written again when somebody has replaced them.
"""

from __future__ import annotations

import base64
from typing import Any

import structlog

from dra_driver.kube.connection import Connection, JsonObject
from dra_driver.kube.errors import NotFound

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

NAME = "hami-dra-admission"
_ROOT = "/apis/admissionregistration.k8s.io/v1"
_KINDS = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
# Entries of the list are found by their names, and what is not named stays.
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class Webhooks:
    """Keeps the configurations as they should be."""

    def __init__(self, connection: Connection, *, failure_policy: str) -> None:
        self._connection = connection
        self._failure_policy = failure_policy

    async def publish(self, bundle: bytes | None) -> bool:
        """Make them trust `bundle` (None: whom they trust is not our affair). Returns whether that changed anything.

        A configuration that is not installed is left out. Raises KubeError; Conflict where somebody else wrote.
        """
        changed = [await self._publish(kind, bundle) for kind in _KINDS]
        return any(changed)

    async def _publish(self, kind: str, bundle: bytes | None) -> bool:
        path = f"{_ROOT}/{kind}/{NAME}"
        try:
            found = await self._connection.request("GET", path)
        except NotFound:
            return False
        patches = [patch for webhook in found.get("webhooks") or () if (patch := self._patch(webhook, bundle))]
        if not patches:
            return False
        body: JsonObject = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "webhooks": patches,
        }
        await self._connection.request("PATCH", path, body=body, content_type=_STRATEGIC_PATCH)
        log.info("webhooks_written", configuration=kind, webhooks=[patch["name"] for patch in patches])
        return True

    def _patch(self, webhook: Any, bundle: bytes | None) -> JsonObject | None:
        """What has to change in one webhook; None where nothing has."""
        patch: JsonObject = {}
        if webhook.get("failurePolicy") != self._failure_policy:
            patch["failurePolicy"] = self._failure_policy
        encoded = None if bundle is None else base64.b64encode(bundle).decode()
        if encoded is not None and (webhook.get("clientConfig") or {}).get("caBundle") != encoded:
            patch["clientConfig"] = {"caBundle": encoded}
        return {"name": webhook["name"], **patch} if patch else None
