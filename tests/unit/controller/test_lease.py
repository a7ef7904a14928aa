"""Who acts, and for how long: several replicas and one Lease, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from dra_driver.controller.fencing import FencedConnection
from dra_driver.controller.lease import Leadership, NotLeading
from dra_driver.kube.leases import ApiLease
from tests.support.leases import LeaseServer
from tests.support.virtual_time import run_virtually

SECONDS = 15.0


class Acts(list[tuple[str, str, float]]):
    """Who began and ended to act, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = asyncio.Event()

    def note(self, name: str, what: str) -> None:
        self.append((name, what, asyncio.get_running_loop().time()))
        self.noted.set()
        self.noted = asyncio.Event()


class Replica:
    """One replica, whose work is to note when it works."""

    def __init__(self, server: LeaseServer, name: str, acts: Acts) -> None:
        self.name = name
        self.connection = server.for_replica()
        self.changes: list[bool] = []
        loop = asyncio.get_running_loop()
        self.leadership = Leadership(
            ApiLease(self.connection, namespace="hami-dra", name="hami-dra-controller"),
            identity=name,
            seconds=SECONDS,
            on_change=self.changes.append,
            clock=loop.time,
        )
        self.ends_slowly = 0.0
        self.stubborn = asyncio.Event()
        self._acts = acts
        self.task = asyncio.create_task(self.leadership.run(self._act))

    async def _act(self) -> None:
        self._acts.note(self.name, "begin")
        try:
            await asyncio.Event().wait()
        finally:
            if self.ends_slowly:
                await asyncio.sleep(self.ends_slowly)
            self._acts.note(self.name, "end")

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def crash(self) -> None:
        """What kill -9 does: nothing of it reaches the server any more."""
        self.connection.hangs = True
        await self.stop()


class Field:
    """A server and what happens on it."""

    def __init__(self) -> None:
        self.server = LeaseServer()
        self.acts = Acts()
        self.replicas: list[Replica] = []

    def start(self, name: str) -> Replica:
        replica = Replica(self.server, name, self.acts)
        self.replicas.append(replica)
        return replica

    async def begun(self, name: str, within: float) -> float:
        """Wait until it acts; returns when it began."""
        async with asyncio.timeout(within):
            while not (found := [at for who, what, at in self.acts if (who, what) == (name, "begin")]):
                await self.acts.noted.wait()
        return found[-1]

    def overlaps(self) -> bool:
        """Whether two ever acted at once."""
        acting: set[str] = set()
        for who, what, _ in sorted(self.acts, key=lambda act: act[2]):
            if what == "end":
                acting.discard(who)
            elif acting:
                return True
            else:
                acting.add(who)
        return False


def played(play: Callable[[Field], Coroutine[Any, Any, None]]) -> Field:
    """Run a play to its end, and all its replicas."""

    async def run() -> Field:
        field = Field()
        await play(field)
        for replica in field.replicas:
            await replica.stop()
        return field

    return run_virtually(run())


def test_one_of_several_acts() -> None:
    async def play(field: Field) -> None:
        for name in ("a", "b", "c"):
            field.start(name)
        await asyncio.sleep(600)

    field = played(play)
    assert [what for _, what, _ in field.acts[:2]] == ["begin", "end"]
    assert len({who for who, _, _ in field.acts[:2]}) == 1


def test_the_lease_is_renewed_well_before_it_runs_out() -> None:
    async def play(field: Field) -> None:
        field.start("a")
        await asyncio.sleep(300)

    times = [at for at, _ in played(play).server.writes]
    assert max(after - before for before, after in itertools.pairwise(times)) <= SECONDS / 4


def test_after_a_clean_stop_another_acts_at_once() -> None:
    async def play(field: Field) -> None:
        first = field.start("a")
        await field.begun("a", within=1)
        field.start("b")
        await asyncio.sleep(40)
        stopped = asyncio.get_running_loop().time()
        await first.stop()
        assert await field.begun("b", within=1) - stopped < 0.1

    field = played(play)
    assert not field.overlaps()
    assert field.replicas[0].changes == [True, False]


def test_after_a_crash_another_acts_within_the_leases_duration_of_the_last_sign_of_life() -> None:
    async def play(field: Field) -> None:
        first = field.start("a")
        await field.begun("a", within=1)
        field.start("b")
        await asyncio.sleep(42)
        crashed = asyncio.get_running_loop().time()
        await first.crash()
        took = await field.begun("b", within=30) - crashed
        assert SECONDS - SECONDS / 4 <= took <= SECONDS + 0.1

    assert not played(play).overlaps()


def test_a_holder_that_cannot_renew_has_stopped_before_another_begins() -> None:
    async def play(field: Field) -> None:
        first = field.start("a")
        await field.begun("a", within=1)
        field.start("b")
        await asyncio.sleep(33)
        first.connection.cut = True
        await field.begun("b", within=30)

    field = played(play)
    ended = next(at for who, what, at in field.acts if (who, what) == ("a", "end"))
    begun = next(at for who, what, at in field.acts if (who, what) == ("b", "begin"))
    assert begun - ended >= SECONDS / 4


def test_a_holder_whose_requests_hang_stops_in_time_too() -> None:
    async def play(field: Field) -> None:
        first = field.start("a")
        await field.begun("a", within=1)
        field.start("b")
        await asyncio.sleep(33)
        first.connection.hangs = True
        await field.begun("b", within=30)
        first.connection.hangs = False

    assert not played(play).overlaps()


def test_a_short_outage_costs_nobody_the_lease() -> None:
    async def play(field: Field) -> None:
        first = field.start("a")
        await field.begun("a", within=1)
        second = field.start("b")
        await asyncio.sleep(30)
        first.connection.cut = second.connection.cut = True
        await asyncio.sleep(SECONDS / 3)
        first.connection.cut = second.connection.cut = False
        await asyncio.sleep(120)

    assert [act[:2] for act in played(play).acts] == [("a", "begin"), ("a", "end")]


def test_a_holder_that_lost_the_lease_takes_it_again_and_acts_anew() -> None:
    async def play(field: Field) -> None:
        only = field.start("a")
        await field.begun("a", within=1)
        only.connection.cut = True
        await asyncio.sleep(60)
        only.connection.cut = False
        await asyncio.sleep(60)

    assert [what for _, what, _ in played(play).acts] == ["begin", "end", "begin", "end"]


def test_what_still_acts_after_the_lease_is_lost_never_runs_twice_at_once() -> None:
    async def play(field: Field) -> None:
        only = field.start("a")
        only.ends_slowly = 20.0
        await field.begun("a", within=1)
        only.connection.cut = True
        await asyncio.sleep(15)
        only.connection.cut = False
        await asyncio.sleep(60)

    with capture_logs() as logs:
        field = played(play)
    assert [what for _, what, _ in field.acts] == ["begin", "end", "begin", "end"]
    assert any(entry["event"] == "still_acting" for entry in logs)


def test_somebody_elses_clock_does_not_matter() -> None:
    async def play(field: Field) -> None:
        spec = {"holderIdentity": "stranger", "leaseDurationSeconds": 15, "renewTime": "2099-01-01T00:00:00.000000Z"}
        field.server.put({"metadata": {"name": "hami-dra-controller"}, "spec": spec})
        begun = asyncio.get_running_loop().time()
        field.start("a")
        assert SECONDS <= await field.begun("a", within=30) - begun <= SECONDS + 0.1

    played(play)


def test_a_lease_that_was_deleted_is_made_anew_and_its_holder_stops() -> None:
    async def play(field: Field) -> None:
        field.start("a")
        await field.begun("a", within=1)
        await asyncio.sleep(30)
        field.server.delete()
        await asyncio.sleep(30)

    field = played(play)
    assert [what for _, what, _ in field.acts] == ["begin", "end", "begin", "end"]


def test_a_lease_that_another_took_stops_its_holder_with_the_next_renewal() -> None:
    async def play(field: Field) -> None:
        field.start("a")
        await field.begun("a", within=1)
        await asyncio.sleep(30)
        assert field.server.lease is not None
        field.server.put({**field.server.lease, "spec": {**field.server.spec(), "holderIdentity": "b"}})
        await asyncio.sleep(SECONDS / 4)
        assert field.acts[-1][1] == "end"

    played(play)


def test_other_fields_of_the_lease_survive() -> None:
    async def play(field: Field) -> None:
        metadata = {"name": "hami-dra-controller", "annotations": {"keep": "me"}}
        field.server.put({"metadata": metadata, "spec": {"holderIdentity": "", "preferredHolder": "x"}})
        field.start("a")
        await asyncio.sleep(10)

    field = played(play)
    assert field.server.lease is not None
    assert field.server.lease["metadata"]["annotations"] == {"keep": "me"}
    assert field.server.spec()["preferredHolder"] == "x"


def test_transitions_count_holders_and_not_renewals() -> None:
    async def play(field: Field) -> None:
        for name in ("a", "b"):
            replica = field.start(name)
            await field.begun(name, within=5)
            await asyncio.sleep(60)
            await replica.stop()

    assert played(play).server.spec()["leaseTransitions"] == 2


def test_two_that_start_at_once_do_not_both_get_it() -> None:
    async def play(field: Field) -> None:
        field.server.delay = 0.2
        for name in ("a", "b", "c", "d"):
            field.start(name)
        await asyncio.sleep(60)

    field = played(play)
    assert len([act for act in field.acts if act[1] == "begin"]) == 1


def test_each_replica_knows_whether_the_api_server_answers() -> None:
    async def play(field: Field) -> None:
        both = [field.start("a")]
        await field.begun("a", within=1)
        both.append(field.start("b"))
        await asyncio.sleep(60)
        assert [one.leadership.hears() for one in both] == [True, True]
        for one in both:
            one.connection.cut = True
        await asyncio.sleep(60)
        assert [one.leadership.hears() for one in both] == [False, False]

    played(play)


def test_a_replica_that_does_not_lead_reads_and_cannot_write() -> None:
    async def play(field: Field) -> None:
        field.start("a")
        await field.begun("a", within=1)
        standby = field.start("b")
        fenced = FencedConnection(standby.connection, standby.leadership)
        path = "/apis/coordination.k8s.io/v1/namespaces/hami-dra/leases/hami-dra-controller"
        assert (await fenced.request("GET", path))["spec"]["holderIdentity"] == "a"
        before = list(standby.connection.requests)
        with pytest.raises(NotLeading):
            await fenced.request("PUT", path, body={})
        assert standby.connection.requests == before

    played(play)


def test_a_write_that_is_not_answered_before_the_lease_is_lost_is_broken_off() -> None:
    async def play(field: Field) -> None:
        only = field.start("a")
        await field.begun("a", within=1)
        fenced = FencedConnection(only.connection, only.leadership)
        only.connection.hangs = True
        begun = asyncio.get_running_loop().time()
        with pytest.raises(NotLeading):
            await fenced.request("POST", "/anything", body={})
        assert asyncio.get_running_loop().time() - begun <= SECONDS * 2 / 3
        only.connection.hangs = False

    played(play)
