"""What a share's compute policy does when others want the card, when limits change, and with every way to launch."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers import shim_abi as abi
from tests.bench.shim.compute import Load, beside_unlimited, percentages, running
from tests.bench.shim.machine import Machine, machine
from tests.shim.sharefiles import ShareFiles
from tests.shim.waiting import wait_until

CARD = 0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Two cards and the programs of the bench, made once for all tests of this module."""
    with machine(tmp_path_factory.mktemp("bench"), 2) as made:
        yield made


def mean(bench: Machine, pid: int, windows: int = 2) -> float:
    """Percent of the card that the process takes, over `windows` half seconds from now."""
    (share,) = percentages(bench, CARD, [pid], windows)
    return sum(share) / windows


def settled(bench: Machine, share: ShareFiles, load: Load, windows: int = 3) -> float:
    """Percent of the card of one process of the share, after its first second and a half."""
    with running(bench, CARD, [(share, load)]) as (pid,):
        time.sleep(1.5)
        return mean(bench, pid, windows)


@pytest.mark.parametrize(
    ("name", "load", "tolerance"),
    [
        ("varying", Load(20, 200), 3.0),
        ("long-varying", Load(2000, 20000), 5.0),
        ("streams", Load(100, streams=4), 3.0),
        ("graphs", Load(200, streams=1, way="graph"), 3.0),
        ("waiting", Load(100, way="sync"), 6.0),  # a busy machine wakes it late, and nothing is queued meanwhile
    ],
)
def test_the_limit_holds_for_every_kind_of_work(bench: Machine, name: str, load: Load, tolerance: float) -> None:
    share = bench.share(f"kind-{name}", cores=40)
    assert settled(bench, share, load) == pytest.approx(40, abs=tolerance)


def test_a_burst_share_leaves_idle_time_within_200_ms_when_another_share_wants_it(bench: Machine) -> None:
    burst = bench.share("burst", cores=30, policy=abi.COMPUTE_BURST)
    fixed = bench.share("fixed", cores=60)
    with running(bench, CARD, [(burst, Load(1000))]) as (first,):
        wait_until(lambda: mean(bench, first, 1) > 90)
        with running(bench, CARD, [(fixed, Load(1000))]) as (second,):
            time.sleep(0.2)
            after, other = (sum(found) / 3 for found in percentages(bench, CARD, [first, second], 3))
    assert after == pytest.approx(30, abs=10)
    assert other > 50


def test_of_two_burst_shares_the_one_of_high_priority_takes_what_is_left(bench: Machine) -> None:
    low, high = (bench.share(f"priority-{name}", cores=20, policy=abi.COMPUTE_BURST) for name in ("low", "high"))
    low.write_limit("priority", abi.PRIORITY_LOW)
    high.write_limit("priority", abi.PRIORITY_HIGH)
    with running(bench, CARD, [(low, Load(1000)), (high, Load(1000))]) as pids:
        time.sleep(3)
        lower, higher = (sum(found) / 3 for found in percentages(bench, CARD, pids, 3))
    assert lower == pytest.approx(20, abs=4)
    assert higher > 40


def test_a_share_gets_its_own_beside_others_that_nothing_limits(bench: Machine) -> None:
    guaranteed, *others = beside_unlimited(bench, 2000, 3)
    assert guaranteed == pytest.approx(50, abs=4)
    assert others == pytest.approx([25, 25], abs=8)


def test_processes_that_begin_together_with_long_kernels_do_not_pay_for_each_other(bench: Machine) -> None:
    """Each one's first launches wait for the others', and nobody knows yet how long one takes."""
    share = bench.share("together", cores=10)
    with running(bench, CARD, [(share, Load(20_000))] * 4) as pids:
        time.sleep(1.5)
        total = sum(sum(found) / 4 for found in percentages(bench, CARD, pids, 4))
    assert total == pytest.approx(10, abs=3)


@pytest.mark.parametrize("event_percent", [50, 200])
def test_what_nvml_measures_corrects_events_that_tell_too_little_or_too_much(
    tmp_path: Path, event_percent: int
) -> None:
    """Without the correction such a share would get 80, or 20, for as long as it runs."""
    with machine(tmp_path, 1, event_percent=event_percent) as mistaken:
        share = mistaken.share("corrected", cores=40)
        with running(mistaken, CARD, [(share, Load(1000))]) as (pid,):
            assert mean(mistaken, pid, 1) == pytest.approx(40 * 100 / event_percent, abs=8)
            wait_until(lambda: mean(mistaken, pid, 1) == pytest.approx(40, abs=4))
            assert mean(mistaken, pid, 4) == pytest.approx(40, abs=4)


def test_a_changed_limit_takes_effect_within_100_ms(bench: Machine) -> None:
    share = bench.share("changed", cores=0)
    with running(bench, CARD, [(share, Load(1000))]) as (pid,):
        wait_until(lambda: mean(bench, pid, 1) > 90)
        share.write_limit("cores_current", 20)
        time.sleep(0.1)
        # What the card had queued before may still be running: a queue holds a thousand launches.
        wait_until(lambda: bench.cards.show().cards[CARD].queue_ns < 5_000_000)
        assert mean(bench, pid) == pytest.approx(20, abs=4)
        share.write_limit("cores_current", 70)
        time.sleep(0.1)
        assert mean(bench, pid) == pytest.approx(70, abs=4)


def test_without_a_heartbeat_only_the_guarantee_is_left(bench: Machine) -> None:
    share = bench.share("lent", cores=20)
    share.write_limit("cores_current", 80)
    share.write_limit("heartbeat_ns", time.monotonic_ns())
    share.write_limit("heartbeat_timeout_ns", 4_000_000_000)
    with running(bench, CARD, [(share, Load(1000))]) as (pid,):
        time.sleep(0.5)
        assert mean(bench, pid, 1) == pytest.approx(80, abs=8)
        time.sleep(4)
        assert mean(bench, pid) == pytest.approx(20, abs=4)


def test_recorded_launches_cost_nothing(bench: Machine) -> None:
    """A graph of ten kernels of a second each is recorded at once: only running it would take time."""
    share = bench.share("recorded", cores=10)
    since = time.monotonic()
    with running(bench, CARD, [(share, Load(1_000_000, streams=1, way="graph"))]):
        assert time.monotonic() - since < 5
