"""A share never exceeds its limit on the card, although a driver needs a moment to free what the dead held."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.tenants import PROBES, Tenant
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20
HOLD = "open_device(); check(driver.cuMemAlloc({gib} << 30)); ready(); release()"
TRY = "open_device()\nwhile int(driver.cuMemAlloc({gib} << 30)[0]): time.sleep(0.01)\nready(); release()"


def machine(folder: Path, linger_ns: int) -> Tenant:
    cards = folder / "cards.json"
    cards.write_text(json.dumps({"count": 1, "linger_ns": linger_ns}))
    return Tenant(installation.make(folder / "machine", cards), folder / "shares")


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Tenant]:
    """A card whose driver takes 300 ms to free the memory of an ended process."""
    made = machine(tmp_path, 300_000_000)
    yield made
    made.machine.end_clients()


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Tenant]:
    """A card whose driver names an ended process for a minute."""
    made = machine(tmp_path, 60_000_000_000)
    yield made
    made.machine.end_clients()


@pytest.mark.parametrize("others", [0, 1])
def test_a_charge_goes_back_when_the_driver_has_freed_the_memory(slow: Tenant, others: int) -> None:
    share = slow.share("one", memory=4 * GIB)
    survivors = [slow.machine.start("open_device(); ready(); release()", **slow.preloaded()) for _ in range(others)]
    victim = slow.machine.start(HOLD.format(gib=3), **slow.preloaded())
    for client in (*survivors, victim):
        installation.await_ready(client)
    installation.kill(victim)
    heir = slow.machine.start(TRY.format(gib=3), **slow.preloaded())
    installation.await_ready(heir)
    assert slow.machine.show().cards[0].peak <= 4 * GIB
    assert share.usage("peak_bytes") <= 4 * GIB
    for client in (*survivors, heir):
        installation.finish(client)


def test_a_number_that_stays_in_the_list_holds_a_charge_for_less_than_a_second(stuck: Tenant) -> None:
    share = stuck.share("one", memory=4 * GIB)
    survivor = stuck.machine.start("open_device(); ready(); release()", **stuck.preloaded())
    victim = stuck.machine.start(HOLD.format(gib=1), **stuck.preloaded())
    for client in (survivor, victim):
        installation.await_ready(client)
    installation.kill(victim)
    wait_until(lambda: len(share.processes()) == 1)
    assert share.usage("charged_bytes") == 300 * MIB
    installation.finish(survivor)


def test_processes_that_end_while_others_allocate_never_push_the_card_over_the_limit(tenant: Tenant) -> None:
    share = tenant.share("one", memory=2 * GIB)
    environment = tenant.machine.environment(**tenant.preloaded())
    for _ in range(6):
        racers = [
            subprocess.Popen(
                [str(PROBES / "racer"), "2", str(200 + 150 * n), str(GIB)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            for n in range(4)
        ]
        assert {racer.wait(60) for racer in racers} <= {0, 2}  # 2: no room for its context
    assert share.usage("peak_bytes") > GIB
    assert tenant.machine.show().cards[0].peak <= 2 * GIB + 4 * 2 * 8 * 512  # the card rounds each up to 512
