"""Claims on a node: a whole state, one event, and the whole state after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dra_driver.errors import ClaimNotReady, ConfigRejected, ObjectRejected, OverCommitted
from dra_driver.kube.claims import ClaimRef
from dra_driver.kube.errors import KubeError
from drivers.errors import DeviceLost, DriverError
from drivers.model import Share
from drivers.shim_contract import read_usage
from tests.support.backend import MemoryBackend, card
from tests.support.claims import (
    POOL,
    allocated,
    claim_uid,
    foreign,
    opaque,
    share,
    unallocated,
    vgpu_config,
    whole_device,
)
from tests.support.node import EMPTY, Crash, MemoryNode, NodeState, keys_of, ready, ref_of

TRAIN = allocated("train", share("gpu", "gpu-0", memory="4Gi", cores="30", share_id="t1"))
PAIR = allocated(
    "pair",
    share("a", "gpu-0", memory="4Gi", cores="30", share_id="p1"),
    share("b", "gpu-0", memory="8Gi", cores="60", share_id="p2"),
)
WHOLE = allocated("whole", whole_device("gpu", "gpu-1"))
TENANTS_WORDS = b"words of the tenant"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[MemoryNode]:
    one = MemoryNode(tmp_path, MemoryBackend(card(0), card(1)))
    one.given(TRAIN, PAIR, WHOLE)
    yield one
    # Whatever happened, no half-written file lies about.
    assert not list(tmp_path.rglob(".*.tmp"))


def spoil_usage(node: MemoryNode, key: str) -> None:
    with node.usage(key).open("r+b") as usage:
        usage.write(TENANTS_WORDS)


# Prepare.


async def test_preparing_makes_the_share_its_spec_and_its_record(node: MemoryNode) -> None:
    (prepared,) = await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)
    assert node.state().shares == {prepared.key: (4 << 30, 30)}
    assert (prepared.request, prepared.pool, prepared.device, prepared.share_id) == ("gpu", POOL, "gpu-0", "t1")
    assert prepared.cdi_devices == (
        f"nvidia.com/gpu={card(0).uuid}",
        "vgpu.hami.io/shim=0123456789abcdef",
        f"vgpu.hami.io/share={prepared.key}",
    )


async def test_two_shares_of_one_card_keep_their_own_limits(node: MemoryNode) -> None:
    first, second = await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)
    assert node.state().shares == {first.key: (4 << 30, 30), second.key: (8 << 30, 60)}
    assert (first.request, second.request) == ("a", "b")


async def test_a_whole_card_is_prepared_with_all_that_it_has(node: MemoryNode) -> None:
    (prepared,) = await node.preparation.prepare(ref_of(WHOLE))
    assert prepared.share_id is None
    assert prepared.whole
    assert node.state().shares == {prepared.key: (16 << 30, 100)}


async def test_second_prepare_returns_the_recorded_answer(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    requests = len(node.api.requests)
    assert await node.preparation.prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert node.usage(key).read_bytes().startswith(TENANTS_WORDS)
    assert node.backend.prepare_calls == [key]
    assert len(node.api.requests) == requests, "a recorded claim is answered without the API server"


async def test_prepare_after_a_restart_of_the_plugin_returns_the_recorded_answer(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    assert await node.start().prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert node.usage(key).read_bytes().startswith(TENANTS_WORDS)


async def test_a_spec_that_somebody_removed_is_made_again_and_the_accounting_stays(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    node.spec_path(claim_uid("train")).unlink()
    assert await node.preparation.prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert node.usage(key).read_bytes().startswith(TENANTS_WORDS)


async def test_a_claim_may_hold_cards_of_other_drivers_too(node: MemoryNode) -> None:
    mixed = allocated("mixed", foreign("nic"), share("gpu", "gpu-0"))
    node.given(mixed)
    (prepared,) = await node.preparation.prepare(ref_of(mixed))
    assert prepared.request == "gpu"
    assert node.state() == ready(mixed)


async def test_settings_of_the_claim_reach_the_backend(node: MemoryNode) -> None:
    config = [opaque(vgpu_config(computePolicy="burst", priority="high"), "gpu")]
    wire = allocated("burst", share("gpu", "gpu-0"), config=config)
    node.given(wire)
    await node.preparation.prepare(ref_of(wire))
    (prepared,) = node.backend.prepared.values()
    assert (prepared.settings.compute_policy.value, prepared.settings.priority.value) == ("burst", "high")


# Unprepare.


async def test_unpreparing_leaves_nothing(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))
    await node.preparation.unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_unpreparing_leaves_the_other_claims(node: MemoryNode) -> None:
    for wire in (TRAIN, WHOLE):
        await node.preparation.prepare(ref_of(wire))
    await node.preparation.unprepare(ref_of(WHOLE))
    assert node.state() == ready(TRAIN)


async def test_unpreparing_what_is_unknown_is_a_success(node: MemoryNode) -> None:
    await node.preparation.unprepare(ref_of(TRAIN))
    await node.preparation.prepare(ref_of(TRAIN))
    for _ in range(2):
        await node.preparation.unprepare(ref_of(TRAIN))
    assert node.state() == EMPTY


async def test_unpreparing_needs_no_api_server(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    requests = len(node.api.requests)
    await node.preparation.unprepare(ref_of(TRAIN))
    assert len(node.api.requests) == requests


async def test_a_backend_that_cannot_unprepare_keeps_the_record_until_it_can(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))

    def fail(_key: str) -> None:
        raise DeviceLost("gpu-0 does not answer")

    node.backend.on_unprepare = fail
    with pytest.raises(DeviceLost):
        await node.preparation.unprepare(ref_of(TRAIN))
    assert node.state().records == {"train": "COMPLETED"}
    node.backend.on_unprepare = lambda _key: None
    await node.start().unprepare(ref_of(TRAIN))
    assert node.state() == EMPTY


async def test_a_claim_can_be_prepared_again_after_unprepare(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    spoil_usage(node, first[0].key)
    await node.preparation.unprepare(ref_of(TRAIN))
    assert await node.preparation.prepare(ref_of(TRAIN)) == first
    assert read_usage(node.usage(first[0].key)).charged_bytes == 0


# Crashes.


async def crash_while_preparing(node: MemoryNode, wire: dict[str, object], *, at_share: int) -> None:
    calls = 0

    def die(_share: Share) -> None:
        nonlocal calls
        calls += 1
        if calls > at_share:
            raise Crash

    node.backend.on_prepare = die
    with pytest.raises(Crash):
        await node.preparation.prepare(ref_of(wire))
    node.backend.on_prepare = lambda _share: None


@pytest.mark.parametrize("at_share", [0, 1])
async def test_prepare_after_a_crash_finishes_what_was_begun(node: MemoryNode, at_share: int) -> None:
    await crash_while_preparing(node, PAIR, at_share=at_share)
    assert node.state().records == {"pair": "STARTED"}
    assert len(node.state().shares) == at_share
    await node.start().prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


@pytest.mark.parametrize("at_share", [0, 1])
async def test_unprepare_after_a_crash_takes_back_what_was_begun(node: MemoryNode, at_share: int) -> None:
    await crash_while_preparing(node, PAIR, at_share=at_share)
    await node.start().unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_crash_between_the_spec_and_the_record_is_made_good(
    node: MemoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dra_driver.kubeletplugin.effects.share_device_ids", lambda *_: (_ for _ in ()).throw(Crash()))
        with pytest.raises(Crash):
            await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == NodeState(
        records={"train": "STARTED"},
        specs=ready(TRAIN).specs,
        shares=ready(TRAIN).shares,
        backend=ready(TRAIN).backend,
    )
    await node.start().prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)


async def test_a_crash_while_unpreparing_is_finished_by_the_next_unprepare(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))

    def die(_key: str) -> None:
        raise Crash

    node.backend.on_unprepare = die
    with pytest.raises(Crash):
        await node.preparation.unprepare(ref_of(PAIR))
    assert node.state().records == {"pair": "COMPLETED"}
    node.backend.on_unprepare = lambda _key: None
    await node.start().unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_crash_while_unpreparing_can_also_be_followed_by_a_prepare(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))

    def die(_key: str) -> None:
        raise Crash

    node.backend.on_unprepare = die
    with pytest.raises(Crash):
        await node.preparation.unprepare(ref_of(PAIR))
    node.backend.on_unprepare = lambda _key: None
    await node.start().prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


async def test_what_a_crash_has_begun_counts_as_held(node: MemoryNode) -> None:
    await crash_while_preparing(node, PAIR, at_share=0)
    node.given(big := allocated("big", share("gpu", "gpu-0", memory="8Gi", cores="0", share_id="b1")))
    with pytest.raises(OverCommitted, match="team-a/pair"):
        await node.start().prepare(ref_of(big))


async def test_an_allocation_made_anew_after_a_crash_leaves_nothing_of_the_old_one(node: MemoryNode) -> None:
    await crash_while_preparing(node, PAIR, at_share=1)
    anew = allocated("pair", share("a", "gpu-1", share_id="n1"), share("b", "gpu-1", share_id="n2"))
    node.given(anew)
    await node.start().prepare(ref_of(anew))
    assert node.state() == ready(anew)


# Reboots.


async def test_after_a_reboot_prepare_makes_everything_anew(node: MemoryNode) -> None:
    first = await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    assert await node.reboot().prepare(ref_of(TRAIN)) == first
    assert node.state() == ready(TRAIN)
    assert read_usage(node.usage(key)).processes == ()


async def test_after_a_reboot_a_spec_that_survived_is_not_relied_on(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    node.backend.prepared.clear()
    await node.start(boot_id="boot-2").prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)


async def test_an_attempt_that_fails_after_a_reboot_does_not_make_it_forgotten(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    preparation = node.reboot()

    def fail(_share: Share) -> None:
        raise DeviceLost("the driver is not loaded yet")

    node.backend.on_prepare = fail
    with pytest.raises(DeviceLost):
        await preparation.prepare(ref_of(TRAIN))
    node.backend.on_prepare = lambda _share: None
    await preparation.prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)
    assert read_usage(node.usage(key)).charged_bytes == 0


async def test_after_a_reboot_unprepare_needs_nothing_of_what_was_lost(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(PAIR))
    await node.reboot().unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


# Failures that roll back.


@pytest.mark.parametrize("at_share", [0, 1])
async def test_a_backend_that_fails_leaves_nothing_of_the_claim(node: MemoryNode, at_share: int) -> None:
    await node.preparation.prepare(ref_of(WHOLE))
    before = node.state()

    def fail(one: Share) -> None:
        if one.key == keys_of(PAIR)[at_share]:
            raise DeviceLost("gpu-0 does not answer")

    node.backend.on_prepare = fail
    with pytest.raises(DeviceLost, match="gpu-0 does not answer"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == before
    node.backend.on_prepare = lambda _share: None
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state().records == {"whole": "COMPLETED", "pair": "COMPLETED"}


async def test_a_roll_back_that_fails_too_is_finished_by_unprepare(node: MemoryNode) -> None:
    def fail(error: DriverError) -> None:
        raise error

    node.backend.on_prepare = lambda _share: fail(DeviceLost("no answer to prepare"))
    node.backend.on_unprepare = lambda _key: fail(DeviceLost("no answer to unprepare"))
    with pytest.raises(DeviceLost, match="no answer to prepare"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == NodeState(records={"pair": "STARTED"})
    node.backend.on_unprepare = lambda _key: None
    await node.preparation.unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_failed_repair_leaves_what_running_containers_use(node: MemoryNode) -> None:
    await node.preparation.prepare(ref_of(TRAIN))
    (key,) = keys_of(TRAIN)
    spoil_usage(node, key)
    node.spec_path(claim_uid("train")).unlink()

    def fail(_share: Share) -> None:
        raise DeviceLost("gpu-0 does not answer")

    node.backend.on_prepare = fail
    with pytest.raises(DeviceLost):
        await node.preparation.prepare(ref_of(TRAIN))
    assert node.usage(key).read_bytes().startswith(TENANTS_WORDS)
    assert node.state().records == {"train": "STARTED"}
    node.backend.on_prepare = lambda _share: None
    await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)
    assert node.usage(key).read_bytes().startswith(TENANTS_WORDS)


async def test_a_spec_that_cannot_be_written_leaves_nothing(node: MemoryNode) -> None:
    obstacle = node.spec_path(claim_uid("pair")).with_name(f".{node.spec_path(claim_uid('pair')).name}.tmp")
    obstacle.mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == EMPTY
    obstacle.rmdir()
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


async def test_a_cdi_folder_that_is_none_keeps_the_record_until_it_is_one_again(node: MemoryNode) -> None:
    node.cdi_folder.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="exists"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state().records == {"pair": "STARTED"}
    node.cdi_folder.unlink()
    await node.preparation.unprepare(ref_of(PAIR))
    assert node.state() == EMPTY


async def test_a_record_that_cannot_be_written_stops_before_the_first_effect(node: MemoryNode) -> None:
    obstacle = node.plugin_folder / ".checkpoint.json.tmp"
    obstacle.mkdir()
    with pytest.raises(OSError, match="directory"):
        await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == EMPTY
    assert node.backend.prepare_calls == []
    obstacle.rmdir()
    await node.preparation.prepare(ref_of(PAIR))
    assert node.state() == ready(PAIR)


async def test_a_disk_that_fails_in_the_middle_leaves_at_most_the_record_of_a_start(node: MemoryNode) -> None:
    obstacle = node.plugin_folder / ".checkpoint.json.tmp"
    node.backend.on_prepare = lambda _share: obstacle.mkdir()
    with pytest.raises(OSError, match="directory"):
        await node.preparation.prepare(ref_of(TRAIN))
    assert node.state() == NodeState(records={"train": "STARTED"})
    obstacle.rmdir()
    node.backend.on_prepare = lambda _share: None
    await node.start().prepare(ref_of(TRAIN))
    assert node.state() == ready(TRAIN)


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
