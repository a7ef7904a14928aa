"""Memory that does not come with one call and go with another: managed, graphs, pools, mappings, late code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simgpu import installation
from tests.simgpu.installation import Installation

MIB = 1 << 20
CONTEXT = 300 * MIB
CHUNK = 32 * MIB


@pytest.fixture
def chunky(tmp_path: Path) -> Iterator[Installation]:
    """A machine whose pools grow by 32 MiB, whose code comes late, and whose NVML knows other process ids."""
    cards = tmp_path / "cards.json"
    cards.write_text(
        json.dumps({"count": 1, "foreign_pids": True, "defaults": {"pool_chunk": CHUNK, "lazy_bytes": 16 * MIB}})
    )
    made = installation.make(tmp_path / "chunky", cards)
    yield made
    made.end_clients()


def steps(machine: Installation, code: str) -> list[int]:
    """What the card's account holds beyond a context, at each `ready()` of a program."""
    client = machine.start(f"open_device()\n{code}\nready('end'); release()")
    seen = []
    line = installation.await_ready(client)
    while True:
        seen.append(machine.show().cards[0].used - CONTEXT)
        if line == "end":
            return seen
        line = installation.resume(client)


def test_managed_memory_comes_to_the_card_when_it_is_used_and_stays_away_when_told_so(machine: Installation) -> None:
    code = """
memory = check(driver.cuMemAllocManaged(64 * MIB, 1)); ready(); release()
kernel = Kernel("spin_ns", ctypes.c_uint64); kernel.launch(1000); ready(); release()
host = driver.CUmemLocation(); host.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST
wish = driver.CUmem_advise.CU_MEM_ADVISE_SET_PREFERRED_LOCATION
check(driver.cuMemAdvise(memory, 64 * MIB, wish, host)); kernel.launch(1000); ready(); release()
check(driver.cuMemFree(memory))
"""
    assert steps(machine, code) == [0, 66 * MIB, 2 * MIB, 2 * MIB]


GRAPH = """
graph = check(driver.cuGraphCreate(0))
wanted = driver.CUDA_MEM_ALLOC_NODE_PARAMS()
wanted.bytesize = 8 * MIB
wanted.poolProps.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
wanted.poolProps.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
first = check(driver.cuGraphAddMemAllocNode(graph, None, 0, wanted))
check(driver.cuGraphAddMemFreeNode(graph, [first], 1, wanted.dptr))
run = check(driver.cuGraphInstantiate(graph, 0)); ready(); release()
check(driver.cuGraphLaunch(run, 0)); check(driver.cuGraphLaunch(run, 0)); ready(); release()
check(driver.cuDeviceGraphMemTrim(0))
"""


def test_graph_memory_stays_reserved_after_a_launch_until_it_is_trimmed(machine: Installation) -> None:
    assert steps(machine, GRAPH) == [0, 8 * MIB, 0]


def test_a_pool_takes_memory_in_chunks(chunky: Installation) -> None:
    code = """
stream = check(driver.cuStreamCreate(0))
memory = check(driver.cuMemAllocAsync(MIB, stream)); ready(); release()
other = check(driver.cuMemAllocAsync(32 * MIB, stream)); ready(); release()
check(driver.cuMemFreeAsync(other, stream)); check(driver.cuMemFreeAsync(memory, stream))
"""
    assert steps(chunky, code) == [CHUNK, 2 * CHUNK, 0]


def test_code_comes_to_the_card_when_it_is_first_launched(chunky: Installation) -> None:
    code = """
kernel = Kernel("spin_ns", ctypes.c_uint64); ready(); release()
check(kernel.launch(1000)); check(kernel.launch(1000))
"""
    assert steps(chunky, code) == [2 * MIB, 18 * MIB]


def test_nvml_may_report_process_ids_of_another_namespace(chunky: Installation) -> None:
    code = """
import os
open_device()
nvml.nvmlInit()
(process,) = nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(0))
print(process.pid != os.getpid(), process.usedGpuMemory)
"""
    assert chunky.run(code) == f"True {CONTEXT}"


PHYSICAL = """
place = driver.CUmemAllocationProp()
place.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
place.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
memory = check(driver.cuMemCreate(4 * MIB, place, 0))
"""


def test_memory_bound_to_a_multicast_object_lives_until_it_is_unbound(machine: Installation) -> None:
    code = f"""{PHYSICAL}
shape = driver.CUmulticastObjectProp(); shape.numDevices = 1; shape.size = 4 * MIB
team = check(driver.cuMulticastCreate(shape)); check(driver.cuMulticastAddDevice(team, 0))
check(driver.cuMulticastBindMem(team, 0, memory, 0, 4 * MIB, 0)); check(driver.cuMemRelease(memory)); ready(); release()
check(driver.cuMulticastUnbind(team, 0, 0, 4 * MIB)); ready(); release()
check(driver.cuMemRelease(team))
"""
    assert steps(machine, code) == [4 * MIB, 0, 0]


def test_a_green_context_keeps_the_primary_context_alive(machine: Installation) -> None:
    code = """
check(driver.cuInit(0))
part = check(driver.cuDeviceGetDevResource(0, driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM))
green = check(driver.cuGreenCtxCreate(check(driver.cuDevResourceGenerateDesc([part], 1)), 0, 1))
ready(); release()
check(driver.cuGreenCtxDestroy(green)); ready(); release()
"""
    client = machine.start(code)
    installation.await_ready(client)
    assert machine.show().cards[0].used == CONTEXT
    installation.resume(client)
    assert machine.show().cards[0].used == 0
    installation.finish(client)


def test_a_peak_counts_what_the_living_held_at_once(machine: Installation) -> None:
    code = "open_device(); check(driver.cuMemAlloc(9 << 30)); ready(); release()"
    victim = machine.start(code)
    installation.await_ready(victim)
    installation.kill(victim)
    heir = machine.start(code)
    installation.await_ready(heir)
    assert machine.show().cards[0].peak == CONTEXT + (9 << 30)
    installation.finish(heir)
