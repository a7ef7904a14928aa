"""What the API shows as allocated here counts before it is prepared, and the earlier allocation wins."""

from __future__ import annotations

from collections.abc import Set

import pytest

from dra_driver.errors import OverCommitted
from tests.support.claims import JsonObject, allocated, share, whole_device
from tests.support.node import MemoryNode, ready, ref_of

EARLY, LATE = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"


def at(time: str, wire: JsonObject) -> JsonObject:
    return {**wire, "status": {"allocation": {**wire["status"]["allocation"], "allocationTimestamp": time}}}


FIRST = at(EARLY, allocated("first", share("gpu", "gpu-0", memory="10Gi", cores="0", share_id="f1")))
SECOND = at(LATE, allocated("second", share("gpu", "gpu-0", memory="10Gi", cores="0", share_id="s1")))
ALL_OF_IT = at(LATE, allocated("all", whole_device("gpu", "gpu-0")))


@pytest.mark.parametrize("rival", [SECOND, ALL_OF_IT])
async def test_a_card_that_was_allocated_before_is_not_given_to_a_later_claim(
    node: MemoryNode, rival: JsonObject
) -> None:
    node.given(FIRST, rival)
    node.allocated.wires = [FIRST, rival]
    with pytest.raises(OverCommitted, match="held by ResourceClaim team-a/first"):
        await node.preparation.prepare(ref_of(rival))
    await node.preparation.prepare(ref_of(FIRST))
    assert node.state() == ready(FIRST)


async def test_a_claim_that_is_prepared_stays_whoever_was_first(node: MemoryNode) -> None:
    node.given(FIRST, SECOND)
    await node.preparation.prepare(ref_of(SECOND))
    node.allocated.wires = [FIRST, SECOND]
    with pytest.raises(OverCommitted, match="held by ResourceClaim team-a/second"):
        await node.preparation.prepare(ref_of(FIRST))
    assert await node.preparation.prepare(ref_of(SECOND))
    assert node.state() == ready(SECOND)


async def test_a_claim_waits_until_the_api_no_longer_shows_the_one_before_it(node: MemoryNode) -> None:
    node.start(patience_seconds=30)
    node.given(FIRST, SECOND)
    node.allocated.wires = [FIRST, SECOND]
    claims = node.allocated.claims
    looks = iter([True, False])

    def gone_at_the_second_look(**besides: Set[str]) -> object:
        if not next(looks, False):
            node.allocated.wires = [SECOND]
        return claims(**besides)

    node.allocated.claims = gone_at_the_second_look  # type: ignore[method-assign, assignment]
    await node.preparation.prepare(ref_of(SECOND))
    assert node.state() == ready(SECOND)


async def test_what_the_api_showed_long_ago_refuses_nobody(node: MemoryNode) -> None:
    node.given(FIRST, SECOND)
    node.allocated.wires = [FIRST, SECOND]
    node.allocated.new_enough = False
    await node.preparation.prepare(ref_of(SECOND))
    assert node.state() == ready(SECOND)


async def test_an_allocation_that_makes_no_sense_holds_nothing(node: MemoryNode) -> None:
    far = at(EARLY, allocated("far", share("gpu", "gpu-9")))
    node.given(SECOND)
    node.allocated.wires = [far, SECOND]
    await node.preparation.prepare(ref_of(SECOND))
    assert node.state() == ready(SECOND)
