"""Outcomes reach the claim's status later, once, and never get in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from dra_driver.kube.claim_cache import ClaimCache
from dra_driver.kube.claims import ApiClaims, ClaimRef, parse_claim
from dra_driver.kube.errors import Forbidden, Invalid, KubeError
from dra_driver.kubeletplugin import status_writer
from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim, State
from dra_driver.kubeletplugin.effects import prepared_claim, prepared_share
from dra_driver.kubeletplugin.plan import Card, make_plan
from dra_driver.kubeletplugin.status_writer import StatusWriter
from tests.support.api import CLAIMS, JsonObject, MemoryApi
from tests.support.backend import card
from tests.support.claims import DRIVER, POOL, allocated, share, unallocated
from tests.support.node import ref_of

TRAIN = allocated("train", share("gpu", "gpu-0"))
CLAIM_PATHS = "/apis/resource.k8s.io/v1/namespaces/"


class Writing:
    """A writer with its cache on an API server in memory."""

    def __init__(self, api: MemoryApi | None = None) -> None:
        self.api = api or MemoryApi()
        self.last = 0
        claims = ApiClaims(self.api)
        self.cache = ClaimCache(claims, ours=lambda result: result.driver == DRIVER and result.pool == POOL)
        cards = {(POOL, "gpu-0"): Card(POOL, card(0))}
        self.recorded: dict[str, PreparedClaim] = {}
        self.writer = StatusWriter(
            driver=DRIVER,
            cache=self.cache,
            api=claims,
            plan=lambda claim: make_plan(claim, driver=DRIVER, cards=cards),
            recorded=self.recorded.get,
            delay_seconds=0.0,
        )
        self.cache.on_allocated_anew = self.writer.allocated_anew

    @asynccontextmanager
    async def running(self, standing: Sequence[ClaimRef] = ()) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.cache.run()), asyncio.create_task(self.writer.run(lambda: standing))]
        try:
            await self.api.until(lambda: CLAIMS in self.api.watched)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until_told(self, wire: JsonObject, *reasons: str) -> None:
        """Wait until the claim's devices have exactly these reasons of readiness."""
        await self.api.until(lambda: self.reasons(wire) == list(reasons))

    def reasons(self, wire: JsonObject) -> list[str]:
        return [device["conditions"][0]["reason"] for device in self.api.device_status(wire)]

    async def after_all_said(self) -> None:
        """Say something of another claim last: what comes before it was said by then."""
        self.last += 1
        last = allocated(f"last-{self.last}", share("gpu", "gpu-0", share_id="zzzz"))
        self.api.put_claim(last)
        self.writer.prepared(ref_of(last))
        await self.until_told(last, "Prepared")

    @property
    def writes(self) -> int:
        """Status writes of the claim under test."""
        return sum(method == "PATCH" and "/train/" in path for method, path in self.api.requests)


@pytest.fixture
def writing() -> Writing:
    return Writing()


async def test_a_prepared_claim_says_so_and_an_unprepared_one_nothing(writing: Writing) -> None:
    writing.api.put_claim(TRAIN)
    async with writing.running():
        writing.writer.prepared(ref_of(TRAIN))
        await writing.until_told(TRAIN, "Prepared")
        writing.writer.unprepared(ref_of(TRAIN))
        await writing.until_told(TRAIN)


async def test_the_same_outcome_is_written_once(writing: Writing) -> None:
    writing.api.put_claim(TRAIN)
    async with writing.running():
        for _ in range(3):
            writing.writer.failed(ref_of(TRAIN), "OverCommitted", "no room")
            await writing.until_told(TRAIN, "OverCommitted")
        await writing.after_all_said()
        assert writing.writes == 1
        writing.writer.prepared(ref_of(TRAIN))
        await writing.until_told(TRAIN, "Prepared")
        assert writing.writes == 2


async def test_an_outcome_that_is_overtaken_is_not_written(writing: Writing) -> None:
    writing.api.put_claim(TRAIN)
    async with writing.running():
        writing.writer.prepared(ref_of(TRAIN))
        writing.writer.unprepared(ref_of(TRAIN))
        await writing.after_all_said()
    assert writing.writes == 0


@pytest.mark.parametrize("error", [KubeError("PATCH", 0, "reset"), Forbidden("PATCH", 403, "not yet")])
async def test_a_write_that_fails_is_tried_again(
    writing: Writing, monkeypatch: pytest.MonkeyPatch, error: KubeError
) -> None:
    monkeypatch.setattr(status_writer, "_FIRST_PAUSE", 0.01)
    writing.api.put_claim(TRAIN)
    writing.api.fail_next("PATCH", CLAIM_PATHS, error)
    async with writing.running():
        writing.writer.prepared(ref_of(TRAIN))
        await writing.until_told(TRAIN, "Prepared")
    assert writing.writes == 2


async def test_a_write_that_is_refused_for_good_is_left_and_others_go_on(writing: Writing) -> None:
    writing.api.put_claim(TRAIN)
    writing.api.fail_next("PATCH", CLAIM_PATHS, Invalid("PATCH", 422, "no"))
    async with writing.running():
        writing.writer.prepared(ref_of(TRAIN))
        await writing.after_all_said()
    assert writing.writes == 1
    assert writing.reasons(TRAIN) == []


async def test_a_claim_that_is_gone_deallocated_or_replaced_is_let_alone(writing: Writing) -> None:
    other = allocated("train", share("gpu", "gpu-0"), uid="another-uid")
    async with writing.running():
        writing.writer.prepared(ref_of(TRAIN))
        writing.writer.unprepared(ref_of(allocated("gone")))
        await writing.after_all_said()
        writing.api.put_claim(unallocated("train"))
        writing.writer.prepared(ref_of(TRAIN))
        await writing.after_all_said()
        writing.api.put_claim(other)
        writing.writer.prepared(ref_of(TRAIN))
        await writing.after_all_said()
    assert writing.writes == 0


async def test_a_card_that_vanished_meanwhile_disturbs_no_other_claim(writing: Writing) -> None:
    unknown = allocated("unknown", share("gpu", "gpu-7"))
    writing.api.put_claim(unknown)
    async with writing.running():
        writing.writer.prepared(ref_of(unknown))
        await writing.after_all_said()
    assert writing.api.device_status(unknown) == []


async def test_a_new_process_says_what_the_last_one_could_not(writing: Writing) -> None:
    stale = allocated("stale", share("gpu", "gpu-0", share_id="bbbb"))
    writing.api.put_claim(TRAIN)
    writing.api.put_claim(stale)
    async with writing.running(standing=[ref_of(TRAIN), ref_of(stale)]):
        await writing.until_told(TRAIN, "Prepared")
        await writing.until_told(stale, "Prepared")
    again = Writing(writing.api)
    written = again.writes
    async with again.running(standing=[ref_of(TRAIN)]):
        await again.until_told(stale)
    assert again.reasons(TRAIN) == ["Prepared"]
    assert again.writes == written


async def test_a_status_that_somebody_else_removed_is_written_with_the_next_outcome(writing: Writing) -> None:
    writing.api.put_claim(TRAIN)
    async with writing.running():
        writing.writer.prepared(ref_of(TRAIN))
        await writing.until_told(TRAIN, "Prepared")
        writing.api.put_claim(TRAIN)
        await writing.after_all_said()
        writing.writer.prepared(ref_of(TRAIN))
        await writing.until_told(TRAIN, "Prepared")


async def test_a_claim_that_was_allocated_anew_just_as_it_was_prepared_says_so(writing: Writing) -> None:
    writing.api.put_claim(TRAIN)
    plan = make_plan(parse_claim(TRAIN), driver=DRIVER, cards={(POOL, "gpu-0"): Card(POOL, card(0))})
    shares = [prepared_share(one) for one in plan.shares]
    writing.recorded[plan.ref.uid] = prepared_claim(plan.ref, State.COMPLETED, "boot", shares)
    async with writing.running():
        writing.writer.prepared(ref_of(TRAIN))
        await writing.until_told(TRAIN, "Prepared")
        moved = allocated("train", share("gpu", "gpu-0", share_id="another"))
        writing.api.put_claim(moved)
        await writing.until_told(moved, "AllocatedAnew")
        # Deleted and prepared again, it is what it should be.
        del writing.recorded[plan.ref.uid]
        writing.writer.prepared(ref_of(moved))
        await writing.until_told(moved, "Prepared")
