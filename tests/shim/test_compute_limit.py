"""The compute limit of a share, with the simulated card's own time line as the witness."""

import time

import pytest

from drivers import shim_abi as abi
from tests.shim.tenants import Tenant
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30

# Launches without waiting, for ever: only the limiter, or the card's queue, can hold it back.
BUSY = """
open_device()
kernel = Kernel("spin_ns", ctypes.c_uint64)
ready("up")
while True:
    check(kernel.launch({ns}))
"""

LAUNCHES = 3000
MANY = f"""
open_device()
kernel = Kernel("spin_ns", ctypes.c_uint64)
for number in range({LAUNCHES}):
    check(kernel.launch(5000 + number % 3))
ready("done")
ctypes.CDLL(None).pause()
"""


def busy_ns(tenant: Tenant, pid: int) -> int:
    """Device time that the process has taken so far, as the card counts it."""
    cards = tenant.machine.show().cards
    return sum(int(p.busy_ns) for card in cards for p in card.processes if p.pid == pid)


def measure(tenant: Tenant, pids: list[int], seconds: float) -> list[float]:
    """Percent of the card that each process took, over `seconds`."""
    before, since = [busy_ns(tenant, pid) for pid in pids], time.monotonic_ns()
    time.sleep(seconds)
    after, until = [busy_ns(tenant, pid) for pid in pids], time.monotonic_ns()
    return [100 * (b - a) / (until - since) for a, b in zip(before, after, strict=True)]


def start_busy(tenant: Tenant, microseconds: int, **environment: str) -> int:
    client = tenant.machine.start(BUSY.format(ns=microseconds * 1000), **environment)
    installation.await_ready(client)
    return client.pid


@pytest.mark.parametrize("microseconds", [100, 2000])
@pytest.mark.parametrize("cores", [25, 50])
def test_the_share_of_the_card_is_the_limit(tenant: Tenant, cores: int, microseconds: int) -> None:
    tenant.share("one", memory=4 * GIB, cores=cores)
    pid = start_busy(tenant, microseconds, **tenant.preloaded())
    measure(tenant, [pid], 0.5)
    (percent,) = measure(tenant, [pid], 2.0)
    assert percent == pytest.approx(cores, abs=4)


@pytest.mark.parametrize("limits", [{"cores": 0}, {"cores": 100}, {"cores": 30, "policy": abi.COMPUTE_SHARED}])
def test_a_share_without_a_cap_takes_all_of_the_card(tenant: Tenant, limits: dict[str, int]) -> None:
    tenant.share("one", memory=4 * GIB, **limits)
    pid = start_busy(tenant, 2000, **tenant.preloaded())
    measure(tenant, [pid], 0.5)
    (percent,) = measure(tenant, [pid], 1.5)
    assert percent > 90


def test_processes_of_one_share_have_one_limit_together(tenant: Tenant) -> None:
    tenant.share("one", memory=4 * GIB, cores=40)
    pids = [start_busy(tenant, 1000, **tenant.preloaded()) for _ in range(2)]
    measure(tenant, pids, 0.5)
    assert sum(measure(tenant, pids, 2.0)) == pytest.approx(40, abs=5)


def test_two_shares_of_one_card_are_held_apart(tenant: Tenant) -> None:
    low, high = tenant.share("low", memory=GIB, cores=30), tenant.share("high", memory=GIB, cores=60)
    pids = []
    for share in (low, high):
        own = share.folder.parent.parent / f"view-{share.folder.name}"
        own.mkdir()
        (own / "share").symlink_to(share.folder)
        pids.append(start_busy(tenant, 500, **tenant.preloaded(VGPU_SHARES_DIR=str(own))))
    measure(tenant, pids, 1.0)
    first, second = measure(tenant, pids, 3.0)
    assert first == pytest.approx(30, abs=6)
    assert second == pytest.approx(60, abs=10)


def test_shares_of_one_card_in_one_container_add_up(tenant: Tenant) -> None:
    tenant.share("a", memory=GIB, cores=20)
    tenant.share("b", memory=GIB, cores=30)
    pid = start_busy(tenant, 1000, **tenant.preloaded())
    measure(tenant, [pid], 0.5)
    (percent,) = measure(tenant, [pid], 2.0)
    assert percent == pytest.approx(50, abs=5)


def test_a_changed_limit_takes_effect_while_the_program_runs(tenant: Tenant) -> None:
    share = tenant.share("one", memory=4 * GIB, cores=20)
    pid = start_busy(tenant, 1000, **tenant.preloaded())
    measure(tenant, [pid], 0.5)
    (before,) = measure(tenant, [pid], 1.0)
    share.write_limit("cores_current", 60)
    measure(tenant, [pid], 0.2)
    (after,) = measure(tenant, [pid], 1.5)
    assert before == pytest.approx(20, abs=5)
    assert after == pytest.approx(60, abs=6)


def test_a_closed_gate_stops_launches_until_it_opens(tenant: Tenant) -> None:
    share = tenant.share("one", memory=4 * GIB)
    pid = start_busy(tenant, 1000, **tenant.preloaded())
    share.write_limit("gate", abi.GATE_PAUSED)
    # What is queued already runs to its end, then nothing follows.
    wait_until(lambda: tenant.machine.show().cards[0].queue_ns == 0)
    (paused,) = measure(tenant, [pid], 0.5)
    assert paused == 0
    share.write_limit("gate", abi.GATE_OPEN)
    wait_until(lambda: measure(tenant, [pid], 0.2)[0] > 50)


def test_burst_uses_an_idle_card_and_makes_room_when_it_is_wanted(tenant: Tenant) -> None:
    tenant.share("one", memory=4 * GIB, cores=30, policy=abi.COMPUTE_BURST)
    pid = start_busy(tenant, 1000, **tenant.preloaded())
    wait_until(lambda: measure(tenant, [pid], 0.5)[0] > 80)
    other = start_busy(tenant, 1000)
    wait_until(lambda: measure(tenant, [pid], 0.5)[0] < 50)
    assert measure(tenant, [other], 1.0)[0] > 40


def test_counters_tell_of_launches_and_of_time_waited(tenant: Tenant) -> None:
    share = tenant.share("one", memory=4 * GIB, cores=20)
    start_busy(tenant, 1000, **tenant.preloaded())
    wait_until(lambda: any(p["launches"] > 50 for p in share.processes()))
    (process,) = share.processes()
    assert process["busy_ns"] > 10_000_000
    assert process["throttled_ns"] > process["busy_ns"]
    assert process["last_launch_ns"] > 0


def test_every_launch_is_counted_once(tenant: Tenant) -> None:
    """Most of them pass by themselves, a few at a time ask, and all are written down when the program rests."""
    share = tenant.share("one", memory=4 * GIB, cores=50)
    client = tenant.machine.start(MANY, **tenant.preloaded())
    installation.await_ready(client)
    wait_until(lambda: [p["launches"] for p in share.processes()] == [LAUNCHES])
