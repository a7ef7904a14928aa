"""Races at the limit: not a byte above it, and no refusal while there is room. The simulated card is a witness."""

import pytest

from tests.shim.racing import line_up, reports, start
from tests.shim.tenants import Container, Tenant

GIB = 1 << 30
MIB = 1 << 20
FIELDS = [(2, 1), (8, 1), (32, 1), (1, 2), (1, 8), (1, 32)]
# Granted or refused, of each field: 200,000 of each kind of race. A racer who has enough passes a round.
ALLOCATIONS = 200_000 // len(FIELDS) + 1
ROUNDS = ALLOCATIONS * 2


@pytest.mark.parametrize(("processes", "threads"), FIELDS)
def test_racers_who_want_too_much_never_get_a_byte_above_the_limit(
    container: Container, processes: int, threads: int
) -> None:
    share = container.share("one", memory=container.card_bytes)
    racers = line_up(container, processes, threads, ROUNDS // processes // threads, 64 * MIB)
    contexts = share.usage("charged_bytes")
    wanted = processes * threads * 64 * MIB
    share.write_limit("memory_current_bytes", limit := contexts + wanted // 4)
    share.forget_peak()  # a first context reserves more than it takes
    start(racers)
    succeeded, refused = reports(racers)
    assert share.usage("peak_bytes") <= limit
    if isinstance(container, Tenant):
        assert contexts < container.machine.show().cards[0].peak <= limit
    assert refused > 100
    assert succeeded + refused >= ALLOCATIONS


@pytest.mark.parametrize(("processes", "threads"), FIELDS)
def test_racers_who_want_no_more_than_there_is_are_never_refused(
    container: Container, processes: int, threads: int
) -> None:
    share = container.share("one", memory=container.card_bytes)
    racers = line_up(container, processes, threads, ROUNDS // processes // threads, 64 * MIB)
    contexts = share.usage("charged_bytes")
    share.write_limit("memory_current_bytes", contexts + processes * threads * 64 * MIB)
    start(racers)
    succeeded, refused = reports(racers)
    assert refused == 0
    assert succeeded >= ALLOCATIONS
