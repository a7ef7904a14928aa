"""What exists of a kind, from listings and a watch, in whatever order they come."""

from __future__ import annotations

import random

import pytest

from dra_driver.controller.relisting import Existing, Identity, identity_of


def one(uid: str, version: str = "1") -> Identity:
    return Identity(uid, "ns", f"name-{uid}", version)


def listed(existing: Existing, *uids: str, at: str = "5") -> list[str]:
    """A whole listing; returns what it shows to be gone."""
    existing.take_listing_begun()
    for uid in uids:
        existing.take_listed(one(uid))
    return [identity.uid for identity in existing.take_listing_ended(at)]


def test_a_kind_is_synced_by_the_end_of_its_first_listing_and_stays_so() -> None:
    existing = Existing()
    existing.take_listing_begun()
    existing.take_listed(one("a"))
    assert [existing.synced, len(existing.take_listing_ended("5")), existing.synced] == [False, 0, True]
    existing.take_listing_begun()
    assert existing.synced


def test_what_a_later_listing_lacks_is_gone_and_everything_else_is_not() -> None:
    existing = Existing()
    for uid in ("a", "b", "c"):
        existing.take_changed(one(uid))
    assert listed(existing, "b", "d") == ["a", "c"]
    assert listed(existing, "b", "d") == []


def test_only_a_whole_listing_shows_what_is_gone() -> None:
    existing = Existing()
    existing.take_changed(one("a"))
    existing.take_changed(one("b"))
    existing.take_listing_begun()
    existing.take_listed(one("a"))
    # The server lost its place: the listing is begun anew.
    assert listed(existing, "b") == ["a"]


def test_what_is_gone_does_not_come_back_by_what_was_still_on_its_way() -> None:
    existing = Existing()
    existing.take_changed(one("a"))
    listed(existing)
    assert not existing.take_changed(one("a", "2"))
    assert not existing.take_deleted(one("a", "3"))
    assert not existing.take_changed(one("never-known", "4"))
    assert len(existing) == 0
    assert existing.take_changed(one("new", "6"))


def test_a_change_that_was_overtaken_by_a_listing_is_no_news() -> None:
    existing = Existing()
    existing.take_listing_begun()
    assert existing.take_listed(one("a", "10"))
    existing.take_listing_ended("10")
    assert not existing.take_changed(one("a", "9"))
    assert not existing.take_changed(one("a", "10"))
    assert existing.take_changed(one("a", "11"))


def test_versions_that_are_no_numbers_are_told_apart_only() -> None:
    existing = Existing()
    assert existing.take_changed(one("a", "x9"))
    assert not existing.take_changed(one("a", "x9"))
    assert existing.take_changed(one("a", "x10"))


def test_a_deletion_is_told_once() -> None:
    existing = Existing()
    existing.take_changed(one("a"))
    assert existing.take_deleted(one("a", "2"))
    assert not existing.take_deleted(one("a", "2"))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_known_after_any_outages_is_what_exists(seed: int) -> None:
    """A cluster changes; some changes are heard, some lost and some late, until a listing comes."""
    chance = random.Random(seed)
    existing, truth, shown = Existing(), dict[str, str](), set[str]()
    late: list[tuple[bool, Identity]] = []
    for step in range(600):
        uid = str(chance.randrange(30))
        deletes = uid in truth and chance.random() < 0.5
        if deletes:
            del truth[uid]
        else:
            # UIDs are never used again.
            uid = uid if uid in truth else f"{uid}-{step}"
            truth[uid] = str(step)
        if chance.random() < 0.8:
            late.append((deletes, one(uid, str(step))))
        while late and chance.random() < 0.4:
            gone, identity = late.pop(0)
            if gone and existing.take_deleted(identity):
                shown.discard(identity.uid)
            elif not gone and existing.take_changed(identity):
                shown.add(identity.uid)
        if chance.random() < 0.05:
            existing.take_listing_begun()
            shown |= {uid for uid, version in truth.items() if existing.take_listed(one(uid, version))}
            shown -= {identity.uid for identity in existing.take_listing_ended(str(step))}
            assert shown == set(truth)
            # What is still on its way from before changes nothing.
            while late:
                gone, identity = late.pop(0)
                assert not (existing.take_deleted(identity) if gone else existing.take_changed(identity))


def test_an_identity_is_read_from_the_wire() -> None:
    metadata = {"uid": "u", "namespace": "n", "name": "m", "resourceVersion": "7"}
    assert identity_of({"metadata": metadata}) == Identity("u", "n", "m", "7")
    assert identity_of({}) == Identity("", "", "", "")
