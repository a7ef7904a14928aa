"""How often a claim would fit: it is placed again and again, each time beside what was placed before."""

from __future__ import annotations

from dataclasses import replace

from dra_driver.explain.deciding import outcomes
from dra_driver.explain.objects import AllocatedDevice, AllocatedDevices, Allocation, Claim, ClaimStatus
from dra_driver.explain.searching import Grant
from dra_driver.explain.state import State


def copies(state: State, claim: Claim, limit: int) -> dict[str, int]:
    """How many claims like this one each node takes now, node after node, up to `limit` in all."""
    counts: dict[str, int] = {}
    for node in state.places():
        while sum(counts.values()) < limit:
            here = next(iter(outcomes(state, (claim,), first=node.metadata.name)))
            if here.grants is None:
                break
            counts[node.metadata.name] = counts.get(node.metadata.name, 0) + 1
            copy = placed(claim, here.grants[0], sum(counts.values()))
            state = replace(state, claims=(*state.claims, copy))
    return counts


def placed(claim: Claim, grants: tuple[Grant, ...], number: int) -> Claim:
    """The claim as if it had these cards, under a name that no claim can have."""
    results = tuple(
        AllocatedDevice(
            request=grant.request,
            driver=grant.card[0],
            pool=grant.card[1],
            device=grant.card[2],
            share_id=None if grant.consumed is None else str(number),
            consumed_capacity=None if grant.consumed is None else dict(grant.consumed),
        )
        for grant in grants
    )
    metadata = claim.metadata.model_copy(update={"name": f"{claim.metadata.name}#{number}", "uid": f"#{number}"})
    allocation = Allocation(devices=AllocatedDevices(results=results))
    return claim.model_copy(update={"metadata": metadata, "status": ClaimStatus(allocation=allocation)})
