"""The node's own count of what is promised on each card."""

from __future__ import annotations

import pytest

from dra_driver.errors import OverCommitted
from dra_driver.kube.claims import ClaimRef, Result
from dra_driver.kubeletplugin.checkpoint import PreparedClaim, State
from dra_driver.kubeletplugin.effects import prepared_share
from dra_driver.kubeletplugin.ledger import check_fits, promises
from dra_driver.kubeletplugin.plan import PlannedShare
from drivers.model import Device, Share
from tests.support.backend import GIB, card
from tests.support.claims import DRIVER, POOL

CARD = card(0, shares=3)
OTHER_CARD = card(1)
NEW = ClaimRef("team-a", "new", "u-new")


def planned(memory: int, cores: int = 0, *, device: Device = CARD, share_id: str | None = "s1") -> PlannedShare:
    consumed = None if share_id is None else {"memory": memory * GIB, "cores": cores}
    result = Result("path", "gpu", DRIVER, POOL, device.name, share_id, consumed)
    return PlannedShare(result, Share(f"{share_id}-{memory}-{cores}", device, memory * GIB, cores))


def whole(device: Device = CARD) -> PlannedShare:
    return planned(device.memory.value // GIB, device.cores.value, device=device, share_id=None)


def held(name: str, *shares: PlannedShare, state: State = State.COMPLETED) -> PreparedClaim:
    recorded = tuple(prepared_share(share) for share in shares)
    return PreparedClaim(uid=f"u-{name}", namespace="team-b", name=name, state=state, boot_id="b", shares=recorded)


def check(*shares: PlannedShare, beside: tuple[PreparedClaim, ...] = ()) -> None:
    check_fits(NEW, shares, promises(beside))


def test_what_fits_exactly_passes() -> None:
    check(planned(12, 70), beside=(held("a", planned(4, 30)),))


@pytest.mark.parametrize(
    ("memory", "cores", "words"),
    [
        (13, 10, r"card gpu-0 has 17179869184 memory, of which 4294967296 are held; 13958643712 more"),
        (1, 71, r"has 100 cores, of which 30 are held; 71 more"),
    ],
)
def test_one_unit_too_many_is_refused_with_the_claim_that_holds_the_rest(memory: int, cores: int, words: str) -> None:
    with pytest.raises(OverCommitted, match=words) as caught:
        check(planned(memory, cores), beside=(held("a", planned(4, 30)), held("far", planned(9, 9, device=OTHER_CARD))))
    assert "held by ResourceClaim team-b/a" in str(caught.value)
    assert "team-b/far" not in str(caught.value)
    assert caught.value.retriable


def test_every_claim_that_holds_a_part_is_named() -> None:
    with pytest.raises(OverCommitted, match=r"held by ResourceClaim team-b/a, ResourceClaim team-b/b"):
        check(planned(9), beside=(held("b", planned(4)), held("a", planned(4))))


def test_more_tenants_than_the_card_takes_are_refused() -> None:
    three = tuple(held(name, planned(1)) for name in "abc")
    check(planned(1), beside=three[:2])
    with pytest.raises(OverCommitted, match="3 shares, of which 3 are held"):
        check(planned(1), beside=three)


def test_shares_of_one_claim_count_together() -> None:
    check(planned(8, 50, share_id="s1"), planned(8, 50, share_id="s2"))
    with pytest.raises(OverCommitted, match="the claim itself names gpu-0 2 times"):
        check(planned(8, share_id="s1"), planned(9, share_id="s2"))


def test_shares_of_different_cards_do_not_count_together() -> None:
    check(planned(16, 100), planned(16, 100, device=OTHER_CARD))


def test_a_whole_card_takes_nobody_beside_it() -> None:
    check(whole())
    with pytest.raises(OverCommitted, match="wanted whole"):
        check(whole(), beside=(held("a", planned(1)),))
    with pytest.raises(OverCommitted, match="wanted whole"):
        check(planned(1), beside=(held("a", whole()),))
    with pytest.raises(OverCommitted, match="wanted whole"):
        check(whole(), whole())


def test_a_share_of_nothing_is_still_beside_a_whole_card() -> None:
    with pytest.raises(OverCommitted, match="held by ResourceClaim team-b/a"):
        check(planned(0), beside=(held("a", whole()),))


def test_what_the_claim_itself_holds_already_does_not_count_against_it() -> None:
    again = PreparedClaim(
        uid=NEW.uid,
        namespace=NEW.namespace,
        name=NEW.name,
        state=State.STARTED,
        boot_id="b",
        shares=(prepared_share(planned(16, 100)),),
    )
    check(planned(16, 100), beside=(again,))


def test_a_claim_whose_preparation_has_only_begun_counts() -> None:
    with pytest.raises(OverCommitted, match="team-b/a"):
        check(planned(9), beside=(held("a", planned(8), state=State.STARTED),))
