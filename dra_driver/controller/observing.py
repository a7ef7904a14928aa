"""What the parts of the controller see, and when they may act.

Both replicas watch, so that the one that takes over starts warm; only the holder of the Lease writes. A part of the
controller is therefore an Observer with two halves: `saw` keeps its picture of the cluster and never touches the API;
`act` is the work, and it runs only while this replica leads.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol


class Kind(StrEnum):
    """The kinds of objects that the controller watches."""

    CLAIMS = "claims"
    SLICES = "slices"
    CLASSES = "classes"
    NODES = "nodes"
    NAMESPACES = "namespaces"
    TAINT_RULES = "taint_rules"
    TEMPLATES = "templates"
    PODS = "pods"


class Change(StrEnum):
    """Why an object is shown: it changed, or it was there when the watch began (LISTED, also after a reconnect)."""

    LISTED = "LISTED"
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Observer(Protocol):
    """A part of the controller: what it wants to see, and what it does about it while this replica leads."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds it is shown; the process watches the union over all observers and nothing else."""
        ...

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """Takes one object as it is on the wire. Called on both replicas, in the order of the watch per object.

        Cheap and synchronous: every other object waits behind it. A malformed object is logged, never raised. The
        mapping belongs to the caller: what is kept must be parsed or copied. An object that was deleted while no watch
        was open has nothing left but its namespace, name and UID.
        """
        ...

    async def act(self) -> None:
        """Works until cancelled, or as long as there is anything to do.

        Started anew each time this replica takes the Lease, once everything that exists has been seen; cancelled when
        it loses the Lease. After an exception, which is logged and counted, it is called again after a pause; the
        other parts go on meanwhile.
        """
        ...
