"""Which namespaces may have what takes from others: high priority, and memory beyond the card's.

A claim is written by a tenant, the labels of his namespace are not: whoever runs the cluster says there what he may
have. Labels come from the watch; before something is refused the namespace is read anew, since a label that was set a
moment ago may not have been seen yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from dra_driver.controller.admission.features import Feature
from dra_driver.kube.connection import Connection
from dra_driver.kube.errors import NotFound

# Refusals come from tenants, and each may cost a read.
_READS_AT_ONCE = 4


class Permissions:
    """What is allowed where."""

    def __init__(self, connection: Connection, restricted: Collection[Feature]) -> None:
        """`restricted`: what needs a label; the rest is allowed everywhere."""
        self._connection = connection
        self._restricted = frozenset(restricted)
        self._labelled: dict[str, frozenset[Feature]] = {}
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    def saw(self, wire: Mapping[str, Any]) -> None:
        """Keep what a namespace's labels allow."""
        name, allowed = _read(wire)
        if allowed:
            self._labelled[name] = allowed
        else:
            self._labelled.pop(name, None)

    def gone(self, wire: Mapping[str, Any]) -> None:
        """Forget a namespace."""
        self._labelled.pop(_read(wire)[0], None)

    async def allows(self, namespace: str, feature: Feature) -> bool:
        """Whether claims of the namespace may have it. Raises KubeError when nobody can tell."""
        if feature not in self._restricted or feature in self._labelled.get(namespace, ()):
            return True
        async with self._reads:
            try:
                wire = await self._connection.request("GET", f"/api/v1/namespaces/{namespace}")
            except NotFound:
                return False
        return feature in _read(wire)[1]


def _read(wire: Mapping[str, Any]) -> tuple[str, frozenset[Feature]]:
    metadata = wire.get("metadata") or {}
    labels = metadata.get("labels") or {}
    return str(metadata.get("name", "")), frozenset(one for one in Feature if labels.get(one.label) == "true")
