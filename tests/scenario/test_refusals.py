"""Claims that cannot be prepared, and cards that cannot hold them: the node stays as it was."""

from __future__ import annotations

import asyncio

import pytest

from dra_driver.errors import ClaimNotReady, ConfigRejected, ObjectRejected, OverCommitted
from dra_driver.kube.claims import ClaimRef
from dra_driver.kube.errors import KubeError
from tests.scenario.situation import PAIR, TRAIN
from tests.support.claims import allocated, foreign, opaque, share, unallocated, vgpu_config, whole_device
from tests.support.node import EMPTY, MemoryNode, keys_of, ready, ref_of

# Claims that cannot be prepared.


async def refused(node: MemoryNode, ref: ClaimRef, kind: type[Exception], words: str) -> None:
    """Expect a refusal that leaves the node as it was."""
    await node.preparation.prepare(ref_of(TRAIN))
    before = node.state()
    with pytest.raises(kind, match=words):
        await node.preparation.prepare(ref)
    assert node.state() == before


async def test_a_claim_that_was_replaced_is_not_prepared(node: MemoryNode) -> None:
    old = ClaimRef("team-a", "pair", "another-uid")
    await refused(node, old, ClaimNotReady, "pair: metadata.uid: the claim was replaced")


async def test_a_claim_that_is_gone_is_not_prepared(node: MemoryNode) -> None:
    await refused(node, ClaimRef("team-a", "gone", "u"), ClaimNotReady, "gone: the claim does not exist")


async def test_a_claim_that_is_not_allocated_is_not_prepared(node: MemoryNode) -> None:
    node.given(waiting := unallocated("waiting"))
    await refused(node, ref_of(waiting), ClaimNotReady, "not allocated")


async def test_a_claim_of_other_drivers_alone_is_not_prepared(node: MemoryNode) -> None:
    node.given(nics := allocated("nics", foreign("nic")))
    await refused(node, ref_of(nics), ClaimNotReady, r"nothing of driver .*nic\.example\.com")


async def test_a_card_that_is_not_on_the_node_is_named(node: MemoryNode) -> None:
    node.given(far := allocated("far", share("gpu", "gpu-9")))
    await refused(node, ref_of(far), ObjectRejected, r"results\[0\]\.device: node-a-nvidia/gpu-9 is not on this node")


async def test_a_bad_config_is_named_with_its_field(node: MemoryNode) -> None:
    node.given(bad := allocated("bad", share("gpu", "gpu-0"), config=[opaque(vgpu_config(color="red"))]))
    await refused(node, ref_of(bad), ConfigRejected, r"config\[0\]\.opaque\.parameters\.color")


async def test_an_api_server_that_does_not_answer_is_told_as_such(node: MemoryNode) -> None:
    node.api.fail_next(
        "GET", "/apis/resource.k8s.io/v1/namespaces/team-a/resourceclaims/pair", KubeError("GET", 0, "x")
    )
    with pytest.raises(KubeError, match="no answer"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == EMPTY


@pytest.mark.parametrize("uid", ["../../../etc/cron.d/x", "a/b", "", "x" * 100])
async def test_what_cannot_be_a_uid_never_becomes_a_path(node: MemoryNode, uid: str) -> None:
    ref = ClaimRef("team-a", "train", uid)
    for call in (node.preparation.prepare, node.preparation.unprepare):
        with pytest.raises(ObjectRejected, match="uid"):
            await call(ref)
    assert node.state() == EMPTY
    assert node.api.requests == []


# What a card can hold.


async def test_more_than_a_card_has_is_refused_with_who_holds_it(node: MemoryNode) -> None:
    node.given(big := allocated("big", share("gpu", "gpu-0", memory="13Gi", cores="0", share_id="b1")))
    await refused(node, ref_of(big), OverCommitted, r"card gpu-0 .*held by ResourceClaim team-a/train")


async def test_what_is_given_back_can_be_had_again(node: MemoryNode) -> None:
    node.given(big := allocated("big", share("gpu", "gpu-0", memory="13Gi", cores="0", share_id="b1")))
    await node.preparation.prepare(ref_of(TRAIN))
    await node.preparation.unprepare(ref_of(TRAIN))
    await node.preparation.prepare(ref_of(big))
    assert node.state() == ready(big)


async def test_a_whole_card_and_a_share_of_it_exclude_each_other(node: MemoryNode) -> None:
    node.given(all_of_it := allocated("all", whole_device("gpu", "gpu-0")))
    await refused(node, ref_of(all_of_it), OverCommitted, r"wanted whole.* held by ResourceClaim team-a/train")
    await node.preparation.unprepare(ref_of(TRAIN))
    await node.preparation.prepare(ref_of(all_of_it))
    with pytest.raises(OverCommitted, match="held by ResourceClaim team-a/all"):
        await node.preparation.prepare(ref_of(TRAIN))


async def test_of_two_claims_for_the_last_part_of_a_card_exactly_one_wins(node: MemoryNode) -> None:
    rivals = [
        allocated(f"rival-{number}", share("gpu", "gpu-0", memory="10Gi", cores="0", share_id=f"r{number}"))
        for number in range(4)
    ]
    node.given(*rivals)
    outcomes = await asyncio.gather(
        *(node.preparation.prepare(ref_of(wire)) for wire in rivals), return_exceptions=True
    )
    losers = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(losers) == 3
    assert all(isinstance(loser, OverCommitted) for loser in losers)
    (winner,) = [wire for wire, outcome in zip(rivals, outcomes, strict=True) if isinstance(outcome, tuple)]
    assert node.state() == ready(winner)


async def test_calls_for_one_claim_at_once_do_the_work_once(node: MemoryNode) -> None:
    outcomes = await asyncio.gather(*(node.preparation.prepare(ref_of(PAIR)) for _ in range(5)))
    assert len(set(outcomes)) == 1
    assert node.backend.prepare_calls == keys_of(PAIR)
    assert node.state() == ready(PAIR)


async def test_prepare_and_unprepare_at_once_leave_one_of_the_two_states(node: MemoryNode) -> None:
    for _ in range(5):
        await asyncio.gather(node.preparation.prepare(ref_of(PAIR)), node.preparation.unprepare(ref_of(PAIR)))
        assert node.state() in (ready(PAIR), EMPTY)
