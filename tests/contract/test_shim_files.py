"""The node's Python and the container's C on the same two files: what one writes, the other obeys.

An unmodified CUDA client runs on a simulated card with the real library preloaded.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drivers.model import Capacity, Device, DeviceType, Share
from drivers.shim_contract import create_usage, read_limits, read_usage, share_limits, write_limits
from tests.simgpu import installation

GIB = 1024**3
KEY = "c-5d41402abc4b2a76"
SHIM = installation.REPOSITORY / "build/native" / platform.machine() / "libvgpu.so"
# Each step waits for a line, acts, and tells the result code, or the total that it is shown.
CLIENT = """
import sys
from cuda.bindings import driver
driver.cuInit(0)
_, device = driver.cuDeviceGet(0)
_, context = driver.cuDevicePrimaryCtxRetain(device)
driver.cuCtxSetCurrent(context)
print("context", flush=True)
for line in sys.stdin:
    if line.strip() == "total":
        print(driver.cuMemGetInfo()[2], flush=True)
    else:
        print(int(driver.cuMemAlloc(int(line))[0]), flush=True)
"""


@dataclass(frozen=True)
class Container:
    """A share's folder, and a client that lives in it."""

    machine: installation.Installation
    folder: Path

    @property
    def limits(self) -> Path:
        return self.folder / "limits"

    @property
    def usage(self) -> Path:
        return self.folder / "usage"

    def ask(self, question: str) -> str:
        """Send the client one line and return its answer."""
        client = self.machine.clients[0]
        assert client.stdin is not None
        client.stdin.write(f"{question}\n")
        client.stdin.flush()
        return installation.await_ready(client)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    """4 GiB and 30 percent of a card of 16 GiB, with one process that has a context."""
    assert SHIM.is_file(), f"{SHIM} is missing: run make first"
    machine = installation.make(tmp_path / "machine")
    card = machine.show().cards[0]
    device = Device(
        name="gpu-0",
        vendor="nvidia",
        type=DeviceType.GPU,
        uuid=card.uuid,
        index=0,
        model=card.name,
        memory=Capacity(card.total),
        cores=Capacity(100),
        shares=Capacity(10),
    )
    made = Container(machine, tmp_path / "shares" / KEY)
    made.folder.mkdir(parents=True)
    write_limits(made.limits, share_limits(Share(key=KEY, device=device, memory=4 * GIB, cores=30), now_ns=0))
    create_usage(made.usage, KEY)
    client = machine.start(CLIENT, LD_PRELOAD=str(SHIM), VGPU_SHARES_DIR=str(tmp_path / "shares"))
    assert installation.await_ready(client) == "context"
    yield made
    machine.end_clients()


def test_container_is_held_to_the_limit_that_the_node_wrote(container: Container) -> None:
    assert container.ask("total") == str(4 * GIB)
    assert container.ask(str(3 * GIB)) == "0"
    assert container.ask(str(1 * GIB)) == "2"


def test_node_reads_what_the_container_used_and_was_refused(container: Container) -> None:
    container.ask(str(3 * GIB))
    container.ask(str(1 * GIB))
    usage = read_usage(container.usage)
    (process,) = usage.processes
    assert (usage.share_key, usage.refused, usage.refused_bytes) == (KEY, 1, GIB)
    assert process.alive
    assert process.pid == container.machine.clients[0].pid
    assert process.buffer_bytes == 3 * GIB
    assert process.context_bytes > 0
    assert usage.charged_bytes == process.charged_bytes == process.buffer_bytes + process.context_bytes
    assert usage.charged_bytes == container.machine.show().cards[0].used


def test_limit_that_the_node_changes_holds_in_the_running_container(container: Container) -> None:
    limits = read_limits(container.limits)
    assert container.ask(str(5 * GIB)) == "2"
    write_limits(container.limits, replace(limits, memory_current_bytes=8 * GIB))
    assert container.ask("total") == str(8 * GIB)
    assert container.ask(str(5 * GIB)) == "0"
    write_limits(container.limits, limits)
    assert container.ask("total") == str(4 * GIB)
    assert container.ask("1") == "2"


def test_node_sees_that_a_killed_process_is_dead(container: Container) -> None:
    container.ask(str(1 * GIB))
    installation.kill(container.machine.clients[0])
    assert not any(process.alive for process in read_usage(container.usage).processes)
