"""How much of a card a share really got, over windows of half a second, as the card's own time line tells.

The witness is the simulated driver's trace of when whose kernels ran: nothing that the shim says is used.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from queue import SimpleQueue

import statefile

from drivers import shim_abi as abi
from tests.bench.shim.machine import IMAGE, Machine
from tests.shim.sharefiles import ShareFiles
from tests.simgpu import installation

WINDOW_NS = 500_000_000
SETTLE_S = 1.5
# NVML's figures, by which a process knows whether it has the card alone, are of the last second.
START_WINDOWS = 6
GIVEN_BACK_NS = 40_000_000
LARGE_GRID = 4096


@dataclass(frozen=True)
class Load:
    """What the processes of one share do, without end: kernels of `least_us`..`most_us`."""

    least_us: int
    most_us: int = 0
    grid: int = 1
    streams: int = 0
    way: str = "kernel"

    @property
    def words(self) -> list[str]:
        """The arguments of the load program."""
        most = self.most_us or self.least_us
        return [str(self.least_us * 1000), str(most * 1000), str(self.grid), str(self.streams), self.way]


@dataclass(frozen=True)
class Figure:
    """Percent of the card over the windows of one run; `start` is the mean of those before, while it learns."""

    limit: int
    kernel_us: int
    grid: int
    processes: int
    mean: float
    sd: float
    start: float

    @property
    def is_met(self) -> bool:
        """The targets: mean within 2 points, standard deviation within 4."""
        return abs(self.mean - self.limit) <= 2 and self.sd <= 4


def _busy_between(account: statefile.Account, start: int, end: int) -> float:
    """Nanoseconds of the account's work within the window."""
    busy = 0.0
    for back in range(1, min(account.stretches, statefile.TRACE) + 1):
        stretch = account.trace[(account.stretches - back) % statefile.TRACE]
        if stretch.end <= start:
            break
        low, high = max(stretch.start, start), min(stretch.end, end)
        if high > low:
            busy += stretch.busy * (high - low) / (stretch.end - stretch.start)
    return busy


@contextmanager
def running(machine: Machine, card: int, tenants: Sequence[tuple[ShareFiles | None, Load]]) -> Iterator[list[int]]:
    """One process per tenant on a card; gives their pids, and ends them."""
    clients = []
    try:
        for share, load in tenants:
            environment = machine.environment(share, CUDA_VISIBLE_DEVICES=str(card))
            client = machine.cards.spawn([machine.program("load"), str(IMAGE), *load.words], **environment)
            clients.append(client)
            installation.await_ready(client)
        yield [client.pid for client in clients]
    finally:
        for client in clients:
            installation.kill(client)
            machine.cards.clients.remove(client)


def accounts(machine: Machine, card: int, pids: Sequence[int]) -> list[statefile.Account]:
    """What the card has written down of each process."""
    state = statefile.OpenState.at(machine.cards.state).state
    slots = {int(slot.pid): slot for slot in state.slots if slot.taken}
    return [slots[pid].accounts[card] for pid in pids]


def percentages(machine: Machine, card: int, pids: Sequence[int], windows: int) -> list[list[float]]:
    """Percent of the card per pid and window, from now on."""
    found = accounts(machine, card, pids)
    shares: list[list[float]] = [[] for _ in pids]
    start = time.monotonic_ns()
    for _ in range(windows):
        time.sleep(max(0.0, (start + WINDOW_NS - time.monotonic_ns()) / 1e9))
        for account, share in zip(found, shares, strict=True):
            share.append(100 * _busy_between(account, start, start + WINDOW_NS) / WINDOW_NS)
        start += WINDOW_NS
    return shares


def _measure(machine: Machine, card: int, limit: int, load: Load, processes: int, windows: int) -> Figure:
    share = machine.share(f"{card}-{limit}-{load.least_us}-{load.grid}-{processes}", card=card, cores=limit)
    with running(machine, card, [(share, load)] * processes) as pids:
        start, settled = (
            [sum(parts) for parts in zip(*percentages(machine, card, pids, number), strict=True)]
            for number in (START_WINDOWS, windows)
        )
    mean, deviation = statistics.mean(settled), statistics.pstdev(settled)
    words = limit, load.least_us, load.grid, processes
    return Figure(*words, round(mean, 2), round(deviation, 2), round(statistics.mean(start), 2))


@dataclass(frozen=True)
class Plan:
    """What the compute table covers."""

    limits: tuple[int, ...] = (10, 25, 50, 75)
    kernels_us: tuple[int, ...] = (20, 100, 2000, 20000)
    grids: tuple[int, ...] = (1, LARGE_GRID)
    processes: tuple[int, ...] = (1, 2, 4)
    windows: int = 6


QUICK = Plan(limits=(25, 75), kernels_us=(100, 20000), grids=(1,), processes=(1, 2), windows=4)


def table(machine: Machine, plan: Plan, cards: int) -> Iterable[Figure]:
    """Every combination of the plan, on `cards` cards at a time, each figure as soon as it is there."""
    free: SimpleQueue[int] = SimpleQueue()
    for card in range(cards):
        free.put(card)

    def one(case: tuple[int, int, int, int]) -> Figure:
        limit, kernel_us, grid, processes = case
        card = free.get()
        try:
            return _measure(machine, card, limit, Load(kernel_us, grid=grid), processes, plan.windows)
        finally:
            free.put(card)

    with ThreadPoolExecutor(cards) as workers:
        yield from workers.map(one, product(plan.limits, plan.kernels_us, plan.grids, plan.processes))


def two_shares(machine: Machine, kernel_us: int, windows: int) -> tuple[float, float]:
    """Mean percent of a share of 30 and one of 60 on one card, both wanting all they can get."""
    shares = [machine.share(f"both-{kernel_us}-{cores}", cores=cores) for cores in (30, 60)]
    with running(machine, 0, [(share, Load(kernel_us)) for share in shares]) as pids:
        time.sleep(SETTLE_S)
        low, high = percentages(machine, 0, pids, windows)
    return statistics.mean(low), statistics.mean(high)


def _whole(machine: Machine, share: ShareFiles | None, kernel_us: int, windows: int) -> float:
    with running(machine, 0, [(share, Load(kernel_us))]) as pids:
        time.sleep(SETTLE_S)
        return statistics.mean(percentages(machine, 0, pids, windows)[0])


def throughput(machine: Machine, kernel_us: int, rounds: int) -> tuple[float, float]:
    """Percent of the card that one process takes on the bare driver, and in a share of 100: in turn, medians."""
    share = machine.share(f"all-{kernel_us}", cores=100)
    bare, ours = zip(
        *((_whole(machine, None, kernel_us, 3), _whole(machine, share, kernel_us, 3)) for _ in range(rounds)),
        strict=True,
    )
    return statistics.median(bare), statistics.median(ours)


def beside_unlimited(machine: Machine, kernel_us: int, windows: int) -> tuple[float, float, float]:
    """Mean percent of a share of 50 and of two that nothing limits, all wanting all they can get."""
    guaranteed = machine.share(f"guaranteed-{kernel_us}", cores=50)
    others = [machine.share(f"unlimited-{kernel_us}-{n}", policy=abi.COMPUTE_SHARED) for n in range(2)]
    with running(machine, 0, [(share, Load(kernel_us)) for share in (guaranteed, *others)]) as pids:
        time.sleep(SETTLE_S)
        first, second, third = (statistics.mean(found) for found in percentages(machine, 0, pids, windows))
    return first, second, third


def given_back_ms(machine: Machine, kernel_us: int) -> float:
    """Milliseconds from another's first kernel on until a burst share of 30 that had the card alone is back near 30."""
    burst = machine.share(f"burst-{kernel_us}", cores=30, policy=abi.COMPUTE_BURST)
    other = machine.share(f"wants-{kernel_us}", cores=60)
    with running(machine, 0, [(burst, Load(kernel_us))]) as (first,):
        time.sleep(2 * SETTLE_S)
        with running(machine, 0, [(other, Load(kernel_us))]) as (second,):
            time.sleep(1.0)
            had, wants = accounts(machine, 0, [first, second])
            since, now = wants.trace[0].start, time.monotonic_ns()
            starts = range(since, min(now, since + 10**9) - GIVEN_BACK_NS, GIVEN_BACK_NS)
            late = [start for start in starts if _busy_between(had, start, start + GIVEN_BACK_NS) > GIVEN_BACK_NS / 2]
    return (max(late) + GIVEN_BACK_NS - since) / 1e6 if late else 0.0
