"""Whether claims fit, and on which nodes: one search per node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dra_driver.explain.admission import Placing, refusal
from dra_driver.explain.objects import Claim, DeviceClass, Node
from dra_driver.explain.pools import Pool, gather
from dra_driver.explain.reasons import Reason
from dra_driver.explain.searching import Grant, Refused, Undecided, search
from dra_driver.explain.state import State, Taken


@dataclass(frozen=True)
class Outcome:
    """What the scheduler would do on one node: `grants` (one tuple a claim), or None.

    `stopped` says what ended the search; `excluded` why there was none.
    """

    node: Node
    pools: tuple[Pool, ...]
    grants: tuple[tuple[Grant, ...], ...] | None
    stopped: Refused | None = None
    excluded: Reason | None = None

    @property
    def undecided(self) -> bool:
        """Whether nobody can tell outside Kubernetes."""
        return isinstance(self.stopped, Undecided)


def outcomes(
    state: State, claims: Sequence[Claim], *, first: str = "", pod: Placing | None = None
) -> Iterator[Outcome]:
    """Try all nodes, the one called `first` before the others; `pod` is the one that waits for the claims."""
    mine = {claim.metadata.uid for claim in claims if claim.metadata.uid}
    paths = {claim.path for claim in claims}
    taken = Taken.by(one for one in state.claims if one.metadata.uid not in mine and one.path not in paths)
    for node in sorted(state.places(), key=lambda node: node.metadata.name != first):
        yield attempt(node, gather(state, node, taken), taken, claims, state.classes, pod)


def attempt(
    node: Node,
    pools: tuple[Pool, ...],
    taken: Taken,
    claims: Sequence[Claim],
    classes: Mapping[str, DeviceClass],
    pod: Placing | None,
) -> Outcome:
    """Try one node."""
    excluded = refusal(node, pod)
    if excluded is not None:
        return Outcome(node, pools, None, None, excluded)
    try:
        return Outcome(node, pools, search(pools, taken, claims, classes))
    except Refused as stopped:
        return Outcome(node, pools, None, stopped)


def fits(state: State, claims: Sequence[Claim], *, first: str = "", pod: Placing | None = None) -> bool:
    """Whether they fit on some node, for sure."""
    for outcome in outcomes(state, claims, first=first, pod=pod):
        if outcome.grants is not None:
            return True
        if outcome.stopped is not None and not outcome.undecided:
            return False
    return False
