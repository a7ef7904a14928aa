"""Claims of this node are known without a question, as long as what is known can be relied on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dra_driver.kube.claim_cache import ClaimCache
from dra_driver.kube.claims import ApiClaims
from dra_driver.kube.errors import KubeError, NotFound
from tests.support.api import CLAIMS, JsonObject, MemoryApi
from tests.support.claims import DRIVER, POOL, allocated, foreign, share, unallocated
from tests.support.node import ref_of

TRAIN = allocated("train", share("gpu", "gpu-0"))


class Watched:
    """A cache on an API server in memory, with a clock that a test moves."""

    def __init__(self) -> None:
        self.api = MemoryApi()
        self.misses: list[str] = []
        self.now = 0.0
        self.cache = ClaimCache(
            ApiClaims(self.api),
            ours=lambda result: result.driver == DRIVER and result.pool == POOL,
            on_miss=self.misses.append,
            clock=lambda: self.now,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.cache.run())
        try:
            await self.api.until(lambda: CLAIMS in self.api.watched or task.done())
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until_known(self, *names: str) -> None:
        """Wait until exactly these claims are known."""
        await until(lambda: {claim.ref.name for claim in self.cache.claims()} == set(names))

    async def read(self, wire: JsonObject) -> int:
        """Get a claim; returns how many requests that took."""
        before = len(self.api.requests)
        claim = await self.cache.get(ref_of(wire))
        assert claim.ref == ref_of(wire)
        return len(self.api.requests) - before


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks go on until a condition holds."""
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_claim_that_is_listed_or_watched_takes_no_request(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")
        assert await watched.read(TRAIN) == 0
        later = allocated("later", share("gpu", "gpu-0"))
        watched.api.put_claim(later)
        await watched.until_known("train", "later")
        assert await watched.read(later) == 0
    assert watched.misses == []


async def test_only_claims_with_something_of_ours_here_are_kept(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    watched.api.put_claim(unallocated("waits"))
    watched.api.put_claim(allocated("nic", foreign("nic")))
    watched.api.put_claim(allocated("elsewhere", share("gpu", "gpu-0", pool="node-b-nvidia")))
    watched.api.put_claim(allocated("both", foreign("nic"), share("gpu", "gpu-0")))
    async with watched.running():
        await watched.until_known("train", "both")


async def test_a_claim_that_is_not_known_is_read(watched: Watched) -> None:
    async with watched.running():
        watched.api.stalled = True
        watched.api.put_claim(TRAIN)
        assert await watched.read(TRAIN) == 1
        with pytest.raises(NotFound):
            await watched.cache.get(ref_of(allocated("gone")))
    assert watched.misses == ["unknown", "unknown"]


async def test_a_claim_that_lost_its_allocation_or_was_deleted_is_forgotten(watched: Watched) -> None:
    other = allocated("other", share("gpu", "gpu-0"))
    watched.api.put_claim(TRAIN)
    watched.api.put_claim(other)
    async with watched.running():
        await watched.until_known("train", "other")
        watched.api.put_claim(unallocated("train"))
        await watched.until_known("other")
        watched.api.delete_claim(other)
        await watched.until_known()


async def test_a_claim_of_the_same_name_with_another_uid_is_read(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")
        again = allocated("train", share("gpu", "gpu-1"), uid="another-uid")
        watched.api.stalled = True
        watched.api.put_claim(again)
        assert await watched.read(again) == 1


async def test_an_unprepared_claim_holds_nothing_and_is_read_until_it_is_allocated_anew(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")
        watched.cache.unprepared(ref_of(TRAIN))
        assert watched.cache.claims() == ()
        assert await watched.read(TRAIN) == 1
        anew = allocated("train", share("gpu", "gpu-1", share_id="bbbb0001"))
        watched.api.put_claim(anew)
        await watched.until_known("train")
        assert await watched.read(anew) == 0
    assert watched.misses == ["doubtful"]


async def test_a_claim_that_could_not_be_prepared_is_read_anew_and_still_counts(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")
        watched.cache.failed(ref_of(TRAIN), "OverCommitted", "too much")
        assert await watched.read(TRAIN) == 1
        assert len(watched.cache.claims()) == 1


async def test_a_silent_watch_is_not_relied_on_until_it_speaks(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")
        watched.now = 100.0
        assert not watched.cache.trusted()
        assert await watched.read(TRAIN) == 1
        watched.api.send_bookmarks()
        await until(watched.cache.trusted)
        assert await watched.read(TRAIN) == 0
    assert watched.misses == ["unwatched"]


async def test_a_broken_watch_is_taken_up_where_it_ended_and_relied_on_once_it_speaks(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")
        watched.api.break_watches(KubeError("WATCH", 0, "connection reset"))
        await until(lambda: not watched.cache.trusted())
        later = allocated("later", share("gpu", "gpu-0"))
        watched.api.put_claim(later)
        await watched.until_known("train", "later")
        assert watched.cache.trusted()
    assert watched.api.requests.count(("GET", CLAIMS)) == 1


async def test_after_a_version_that_is_too_old_all_is_listed_again(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")
        watched.api.stalled = True
        watched.api.delete_claim(TRAIN)
        watched.api.forget_history()
        watched.api.stalled = False
        watched.api.break_watches()
        await watched.until_known()
    assert watched.api.requests.count(("GET", CLAIMS)) == 2


async def test_many_claims_come_in_pages(watched: Watched) -> None:
    names = [f"claim-{number}" for number in range(501)]
    for name in names:
        watched.api.put_claim(allocated(name, share("gpu", "gpu-0")))
    async with watched.running():
        await watched.until_known(*names)
    assert watched.api.requests.count(("GET", CLAIMS)) == 3


async def test_a_claim_that_makes_no_sense_disturbs_no_other(watched: Watched) -> None:
    bad = allocated("bad", share("gpu", "gpu-0", memory="4GB"))
    watched.api.put_claim(bad)
    watched.api.put_claim(TRAIN)
    async with watched.running():
        await watched.until_known("train")


async def test_a_server_that_does_not_answer_at_first_is_asked_again(watched: Watched) -> None:
    watched.api.put_claim(TRAIN)
    watched.api.fail_next("GET", CLAIMS, KubeError("GET", 503, "starting"))
    async with watched.running():
        await watched.until_known("train")
