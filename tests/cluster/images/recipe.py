"""Names for what is made from a recipe, so that the cache knows whether it has been made."""

from __future__ import annotations

import hashlib


def recipe_hash(*parts: bytes | str) -> str:
    """A name for what is made from these parts."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(hashlib.sha256(encoded).digest())
    return digest.hexdigest()[:16]
