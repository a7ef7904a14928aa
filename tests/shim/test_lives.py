"""What a process may do with itself: fork, spawn, replace itself, start threads, close the driver's library."""

import subprocess

import pytest

from tests.shim.tenants import Container
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20

WAYS = {
    "fork": ["forked {total} 2", "child 0", "parent {total} 2"],
    "bare-clone": ["child 0", "parent {total} 2"],
    "spawn": ["child {total} 2", "child 0", "parent {total} 2"],
    "vfork": ["child {total} 2", "child 0", "parent {total} 2"],
    "exec": ["child {total} 2"],
    "threads": ["threads {total} 2"],
    "dlclose": ["open {total} 2"] * 4 + ["closed {total} 2"],
}


def live(container: Container, way: str, *, native: bool) -> tuple[list[str], "subprocess.Popen[str]"]:
    """What the probe told until it rests, and the resting probe."""
    probe = container.probe("lives", way, native=native)
    told = []
    while (line := installation.await_ready(probe)) != "resting":
        told.append(line)
    return told, probe


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_life_is_as_without_the_shim_but_within_the_share(container: Container, way: str) -> None:
    share = container.share("one", memory=2 * GIB)
    told, probe = live(container, way, native=True)
    installation.finish(probe)
    assert told == [line.format(total=container.card_bytes) for line in WAYS[way]]
    told, probe = live(container, way, native=False)
    assert told == [line.format(total=2 * GIB) for line in WAYS[way]]
    # Whoever came and went in between, the share holds what the process that is left holds, and nothing else.
    wait_until(lambda: [process["pid"] for process in share.processes()] == [probe.pid])
    (process,) = share.processes()
    assert process["buffer_bytes"] == 10 * MIB
    assert process["charged_bytes"] == sum(process[f"{kind}_bytes"] for kind in ("buffer", "context", "module"))
    wait_until(lambda: share.usage("charged_bytes") == process["charged_bytes"])
    installation.finish(probe)


def test_a_static_constructor_that_uses_the_driver_is_limited(container: Container) -> None:
    container.share("one", memory=2 * GIB)
    assert (
        installation.finish(container.probe("linked_constructor", native=True))
        == f"{container.card_bytes} 2 {container.card_bytes} 2"
    )
    assert installation.finish(container.probe("linked_constructor")) == f"{2 * GIB} 2 {2 * GIB} 2"
