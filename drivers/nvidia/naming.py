"""Names cards after their UUID, so that an allocation means the same card after a reboot or under a new index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

PREFIX = "gpu-"
SHORTEST = 8


def device_names(uuids: Iterable[str]) -> dict[str, str]:
    """Return each card's name: `gpu-` and the first 8 letters and digits of its UUID.

    Where two cards would get one name, both get longer ones. Names are DNS labels (lower case, at most 63).
    """
    identities = {uuid: _identity(uuid) for uuid in uuids}
    names: dict[str, str] = {}
    length = SHORTEST
    while identities:
        taken = Counter(identity[:length] for identity in identities.values())
        alone = {uuid for uuid, identity in identities.items() if taken[identity[:length]] == 1}
        # The whole identity: two UUIDs that differ in nothing else than punctuation cannot be told apart.
        if length >= max(map(len, identities.values())):
            alone = set(identities)
        names |= {uuid: PREFIX + identities.pop(uuid)[:length] for uuid in alone}
        length += 1
    return names


def _identity(uuid: str) -> str:
    plain = uuid.lower().removeprefix("gpu-")
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())
