"""Whether claims fit, and on which nodes: one search per node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dra_driver.explain.objects import Claim, Node
from dra_driver.explain.pools import Pool, gather
from dra_driver.explain.searching import Grant, Refused, Undecided, search
from dra_driver.explain.state import State, Taken


@dataclass(frozen=True)
class Outcome:
    """What the allocator would do on one node: `grants` (one tuple a claim), or None; `stopped` says what ended it."""

    node: Node
    pools: tuple[Pool, ...]
    grants: tuple[tuple[Grant, ...], ...] | None
    stopped: Refused | None = None

    @property
    def undecided(self) -> bool:
        """Whether nobody can tell outside Kubernetes."""
        return isinstance(self.stopped, Undecided)


def outcomes(state: State, claims: Sequence[Claim], *, first: str = "") -> Iterator[Outcome]:
    """Try all nodes, the one called `first` before the others."""
    mine = {claim.metadata.uid for claim in claims if claim.metadata.uid}
    paths = {claim.path for claim in claims}
    taken = Taken.by(one for one in state.claims if one.metadata.uid not in mine and one.path not in paths)
    for node in sorted(state.places(), key=lambda node: node.metadata.name != first):
        pools = gather(state, node, taken)
        try:
            yield Outcome(node, pools, search(pools, taken, claims, state.classes))
        except Refused as stopped:
            yield Outcome(node, pools, None, stopped)


def fits(state: State, claims: Sequence[Claim], *, first: str = "") -> bool:
    """Whether they fit on some node, for sure."""
    for outcome in outcomes(state, claims, first=first):
        if outcome.grants is not None:
            return True
        if outcome.stopped is not None and not outcome.undecided:
            return False
    return False
