"""What of a kind exists, as the listings and the watch tell it together.

A watch that was away too long is begun anew with a listing, and what was deleted meanwhile is simply not in it: nobody
says so. Here the listing is compared with what was known, so that every object that was shown is taken back once it is
gone. Changes take longer than listings to come, so what is older than what is known is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """Which object it is, in which version."""

    uid: str
    namespace: str
    name: str
    version: str


class Existing:
    """The objects of one kind. `take_…` are called in the order in which things were heard of."""

    def __init__(self) -> None:
        self._known: dict[str, Identity] = {}
        self._listing: set[str] = set()
        self._listed_at = ""
        self._synced = False

    @property
    def synced(self) -> bool:
        """Whether a listing has come to its end once: what a later one brings is only more of the same."""
        return self._synced

    def __len__(self) -> int:
        """Count what exists."""
        return len(self._known)

    def take_listing_begun(self) -> None:
        """A listing begins; one that was not ended is void."""
        self._listing = set()

    def take_listed(self, identity: Identity) -> bool:
        """Take an object of the listing; tells whether it is news."""
        self._listing.add(identity.uid)
        return self._take(identity)

    def take_listing_ended(self, version: str) -> tuple[Identity, ...]:
        """The listing is complete, and true as of this version; returns what was known and is gone."""
        gone = tuple(identity for uid, identity in self._known.items() if uid not in self._listing)
        for identity in gone:
            del self._known[identity.uid]
        self._listing = set()
        self._listed_at = version
        self._synced = True
        return gone

    def take_changed(self, identity: Identity) -> bool:
        """Take an object as a watch tells of it; tells whether it is news."""
        if identity.uid not in self._known and not _is_newer(identity.version, self._listed_at):
            # The listing since would have it, were it still there.
            return False
        return self._take(identity)

    def take_deleted(self, identity: Identity) -> bool:
        """Take an object that was deleted; tells whether it was known."""
        return self._known.pop(identity.uid, None) is not None

    def _take(self, identity: Identity) -> bool:
        before = self._known.get(identity.uid)
        if before is not None and not _is_newer(identity.version, before.version):
            return False
        self._known[identity.uid] = identity
        return True


def _is_newer(version: str, before: str) -> bool:
    """Compare resource versions, which are numbers (promised since Kubernetes 1.35, and so before); others differ."""
    if version.isdecimal() and before.isdecimal():
        return int(version) > int(before)
    return version != before


def identity_of(wire: Mapping[str, Any]) -> Identity:
    """Read an object's identity; an object without a UID, which no server sends, has an empty one."""
    metadata = wire.get("metadata") or {}
    return Identity(
        str(metadata.get("uid", "")),
        str(metadata.get("namespace", "")),
        str(metadata.get("name", "")),
        str(metadata.get("resourceVersion", "")),
    )
