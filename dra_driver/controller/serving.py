"""Under which path the API server serves each kind that the controller watches.

Asked once at start: a kind that this version of Kubernetes does not serve (taint rules, before their gate is on) is
left out, and one that it must serve is a clear error instead of a watch that never begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from dra_driver.controller.observing import Kind
from dra_driver.errors import HamiDraError
from dra_driver.kube.connection import Connection
from dra_driver.kube.errors import NotFound

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_DRA = "resource.k8s.io"


class KindNotServed(HamiDraError):
    """The API server does not serve what the controller cannot do without. Retriable: it may be upgraded."""

    retriable = True


@dataclass(frozen=True)
class Resource:
    """A kind as the API server names it. `group` is empty for the core group."""

    group: str
    version: str
    plural: str

    @property
    def path(self) -> str:
        """Where all objects of the cluster are listed."""
        return f"{_root(self.group, self.version)}/{self.plural}"


# The versions that the controller can read, the best first.
_WANTED: Mapping[Kind, tuple[Resource, ...]] = {
    Kind.CLAIMS: (Resource(_DRA, "v1", "resourceclaims"),),
    Kind.SLICES: (Resource(_DRA, "v1", "resourceslices"),),
    Kind.CLASSES: (Resource(_DRA, "v1", "deviceclasses"),),
    Kind.TEMPLATES: (Resource(_DRA, "v1", "resourceclaimtemplates"),),
    Kind.TAINT_RULES: tuple(Resource(_DRA, version, "devicetaintrules") for version in ("v1", "v1beta2", "v1alpha3")),
    Kind.NODES: (Resource("", "v1", "nodes"),),
    Kind.NAMESPACES: (Resource("", "v1", "namespaces"),),
    Kind.PODS: (Resource("", "v1", "pods"),),
}
_OPTIONAL = frozenset({Kind.TAINT_RULES})


async def served(connection: Connection, kinds: frozenset[Kind]) -> Mapping[Kind, Resource]:
    """Find the resource of each kind. Raises KindNotServed, KubeError."""
    known: dict[str, frozenset[str]] = {}
    found: dict[Kind, Resource] = {}
    for kind in sorted(kinds):
        for resource in _WANTED[kind]:
            root = _root(resource.group, resource.version)
            if root not in known:
                known[root] = await _resources_below(connection, root)
            if resource.plural in known[root]:
                found[kind] = resource
                break
        else:
            _left_out(kind)
    return found


def _left_out(kind: Kind) -> None:
    first = _WANTED[kind][0]
    if kind not in _OPTIONAL:
        raise KindNotServed(f"the API server serves no {first.group}/{first.version} {first.plural}")
    log.info("kind_not_served", kind=kind.value, resource=f"{first.plural}.{first.group}")


async def _resources_below(connection: Connection, root: str) -> frozenset[str]:
    try:
        answer = await connection.request("GET", root)
    except NotFound:
        return frozenset()
    return frozenset(str(entry.get("name", "")) for entry in answer.get("resources") or ())


def _root(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"
