"""What must be true of a node after whatever was done to it: nothing over-committed, nothing left behind.

Told by three witnesses that know nothing of each other: the plugin's record, the limits that containers are held to,
and what the API shows as allocated; and by the cards' own books, which know what really lies on them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dra_driver.kube.quantities import exact
from drivers.shim_contract import read_limits
from tests.e2e.tenant import Tenant, grants
from tests.stack.plugin import DRIVER
from tests.stack.stack import Stack
from tests.waiting import eventually


def check_room(tenant: Tenant) -> None:
    """What is promised of each card is within what it has, whoever is asked."""
    capacity = {card.uuid: card.total for card in tenant.stack.cards.state()}
    assert _sums(_recorded(tenant.stack), within=capacity)
    assert _sums(_enforced(tenant.stack), within=capacity)
    assert _sums(_allocated(tenant), within=_published(tenant.stack))
    for card in tenant.stack.cards.state():
        assert card.used <= card.total


def left_behind(stack: Stack) -> list[str]:
    """Everything on the node that no prepared claim and no living plugin accounts for."""
    claims = stack.plugin.prepared()
    uids = {claim["uid"] for claim in claims}
    shares = {share["key"] for claim in claims for share in claim["shares"]}
    return [
        *_unknown(stack.places.state / "shares", shares),
        *_unknown(stack.places.state / "metadata", uids),
        *(
            str(spec)
            for spec in stack.cluster.paths.cdi_dynamic.glob(f"{DRIVER}-*")
            if not any(uid in spec.name for uid in uids) and "-shim-" not in spec.name
        ),
        *_half_written(stack),
        *_sockets_of_nobody(stack),
        *map(str, stack.plugin.checkpoint.parent.glob("checkpoint.damaged-*")),
    ]


def check_nothing_left(stack: Stack, *, timeout: float = 120.0) -> None:
    """Once the last call has been answered, all of it is accounted for."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not left_behind(stack), what="nothing is left behind", timeout=timeout)
    assert left_behind(stack) == []


def _unknown(folder: Path, known: set[str]) -> list[str]:
    return [str(entry) for entry in folder.iterdir() if entry.name not in known]


def _half_written(stack: Stack) -> list[str]:
    """Files beside their place, which only a process that is writing them may have."""
    folders = (stack.places.state, stack.cluster.paths.cdi_dynamic, stack.plugin.checkpoint.parent)
    return [str(file) for folder in folders for file in folder.rglob("*.tmp")]


def _sockets_of_nobody(stack: Stack) -> list[str]:
    plugin = stack.plugin
    known = {plugin.dra_socket, plugin.registration_socket}
    places = (plugin.dra_socket.parent.glob("*.sock"), plugin.registration_socket.parent.glob(f"{DRIVER}*.sock"))
    locks = plugin.dra_socket.parent.glob("instance*.lock")
    sockets = [socket for place in places for socket in place if socket not in known]
    return [*map(str, sockets), *(str(lock) for lock in locks if lock.name != "instance.lock")]


def _recorded(stack: Stack) -> Iterable[tuple[str, int]]:
    return ((share["device_uuid"], share["memory"]) for claim in stack.plugin.prepared() for share in claim["shares"])


def _enforced(stack: Stack) -> Iterable[tuple[str, int]]:
    """What the containers are held to, as their own library reads it."""
    for folder in (stack.places.state / "shares").iterdir():
        limits = read_limits(folder / "limits")
        yield limits.device_uuid, limits.memory_guaranteed_bytes


def _allocated(tenant: Tenant) -> Iterable[tuple[str, int]]:
    """What the scheduler has given to the tenant's claims."""
    for claim in tenant.every("resourceclaims"):
        if "allocation" in claim.get("status", {}):
            for grant in grants(claim):
                yield grant.device, int(exact((grant.consumed or {})["memory"]))


def _published(stack: Stack) -> dict[str, int]:
    return {
        device["name"]: int(exact(device["capacity"]["memory"]["value"]))
        for wire in stack.slices()
        for device in wire["spec"].get("devices") or []
    }


def _sums(promises: Iterable[tuple[str, int]], *, within: dict[str, int]) -> Counter[str]:
    held: Counter[str] = Counter()
    for card, memory in promises:
        held[card] += memory
    over = {card: (memory, within[card]) for card, memory in held.items() if memory > within[card]}
    assert not over, f"over-committed: {over}"
    return held
