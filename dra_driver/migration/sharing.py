"""Which container uses whose claim: init containers that end before the others start need no cards of their own.

A claim belongs to the pod from beginning to end. Were each init container given one, its cards would stay reserved
while the pod runs, and a pod that fits under HAMi (which counts the larger of both) would fit no more. So an init
container uses the claim of a container that asks for at least as much of the same kind, or else that of a larger init
container. Sidecars run beside everything: they lend nothing and borrow nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from dra_driver.migration.asking import Ask


class Role(Enum):
    """When a container runs."""

    PASSING = "ends before the main containers start"
    BESIDE = "from its start on, beside all others"
    MAIN = "after all that pass"


def lenders(containers: Sequence[tuple[Role, Sequence[Ask]]]) -> tuple[int, ...]:
    """Tell for each container whose claim it uses: its own where nobody can lend it one."""
    mains = [index for index, (role, _) in enumerate(containers) if role is Role.MAIN]
    passing = [index for index, (role, asks) in enumerate(containers) if role is Role.PASSING and asks]
    lent = list(range(len(containers)))
    # Those that hold most of the others come first, so that what borrows never lends.
    held = {one: sum(_covers(containers[one][1], containers[two][1]) for two in passing) for one in passing}
    settled: list[int] = []
    for index in sorted(passing, key=lambda one: -held[one]):
        lent[index] = next(
            (other for other in (*mains, *settled) if _covers(containers[other][1], containers[index][1])), index
        )
        if lent[index] == index:
            settled.append(index)
    return tuple(lent)


def _covers(larger: Sequence[Ask], smaller: Sequence[Ask]) -> bool:
    """Whether whoever has the one has at least the other."""
    return all(any(_holds(one, other) for one in larger) for other in smaller)


def _holds(larger: Ask, smaller: Ask) -> bool:
    return (
        larger.convention == smaller.convention
        and larger.count >= smaller.count
        and (larger.priority, larger.compute_policy) == (smaller.priority, smaller.compute_policy)
        and _holds_memory(larger, smaller)
        and _holds_cores(larger.cores, smaller.cores)
    )


def _holds_memory(larger: Ask, smaller: Ask) -> bool:
    if larger.whole:
        return True
    if larger.mebibytes is not None and smaller.mebibytes is not None:
        return larger.mebibytes >= smaller.mebibytes
    return larger.percentage is not None and smaller.percentage is not None and larger.percentage >= smaller.percentage


def _holds_cores(larger: int, smaller: int) -> bool:
    """All of a card holds everything; nothing reserved (and nothing capped) holds only the same."""
    return larger == smaller or larger == 100 or 0 < smaller <= larger
