"""When a certificate is replaced, and in which steps, so that no call is refused meanwhile.

Callers must trust a new authority before it is used, and the old one for as long as anybody may still use it. So a new
generation is staged first: its authority joins the bundle, while the old certificate is still served. Only when the API
server has had time to learn of the bundle does the new certificate take over. The old authority stays in the bundle
until it ends. What is stored says at each moment how far that is, so that any replica can go on after a crash.

All of this is pure: what is kept goes in, what should be kept comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeGuard

from dra_driver.controller.admission.certificates import (
    Pair,
    belongs,
    facts,
    make_generation,
    signed_by,
    valid_authorities,
)


@dataclass(frozen=True)
class Kept:
    """What is stored. `bundle` is what callers should trust, in PEM; `staged` is what will be served next."""

    bundle: bytes = b""
    serving: Pair | None = None
    staged: Pair | None = None


@dataclass(frozen=True)
class Terms:
    """What certificates should be like: for whom, and for how long."""

    names: Sequence[str]
    lifetime: timedelta

    def due(self, pair: Pair, now: datetime) -> bool:
        """Whether it should be replaced: in the last third of its life, or made on other terms.

        Clocks of replicas differ, so it may seem to live a little longer than it should.
        """
        told = facts(pair.certificate)
        left = told.ends - now
        return not self.lifetime / 3 <= left <= self.lifetime * 4 / 3 or told.names != frozenset(self.names)


def usable(pair: Pair | None, bundle: bytes, *, now: datetime) -> TypeGuard[Pair]:
    """Whether a caller that trusts the bundle would accept it now."""
    try:
        if pair is None or not belongs(pair):
            return False
        told = facts(pair.certificate)
        return told.begins <= now < told.ends and signed_by(pair.certificate, valid_authorities(bundle, now=now))
    except ValueError:
        return False


def begun(kept: Kept, terms: Terms, *, now: datetime) -> Kept | None:
    """The first certificate, or another where what is kept cannot be served; None where nothing is to be done."""
    if usable(kept.serving, kept.bundle, now=now):
        return None
    made = make_generation(terms.names, now=now, lifetime=terms.lifetime)
    return Kept(made.authority + _still_valid(kept.bundle, now), made.serving)


def staged(kept: Kept, terms: Terms, *, now: datetime) -> Kept | None:
    """With the next certificate and its authority, when it is time for one; None where nothing is to be done."""
    if usable(kept.staged, kept.bundle, now=now) or not usable(kept.serving, kept.bundle, now=now):
        return None
    if not terms.due(kept.serving, now):
        return None
    made = make_generation(terms.names, now=now, lifetime=terms.lifetime)
    return replace(kept, bundle=made.authority + _still_valid(kept.bundle, now), staged=made.serving)


def switched(kept: Kept, *, now: datetime) -> Kept | None:
    """With the staged certificate in use, and without authorities that have ended; None where nothing is staged."""
    if not usable(kept.staged, kept.bundle, now=now):
        return None
    return Kept(_still_valid(kept.bundle, now), kept.staged)


def _still_valid(bundle: bytes, now: datetime) -> bytes:
    """What can be kept of a bundle; nothing of one that cannot be read."""
    try:
        return b"".join(valid_authorities(bundle, now=now))
    except ValueError:
        return b""
