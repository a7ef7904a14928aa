"""Memory is accounted on the card, across processes, and comes back whatever way a process ends."""

import os
import sys

import pytest
import statefile

from tests.simgpu import installation
from tests.simgpu.installation import Installation

GIB = 1 << 30
CONTEXT = 300 << 20
MODULE = 2 << 20
ARRAY = (
    "shape = driver.CUDA_ARRAY_DESCRIPTOR()\nshape.Width = shape.Height = 1024\nshape.NumChannels = 4\n"
    "shape.Format = driver.CUarray_format.CU_AD_FORMAT_FLOAT\narray = check(driver.cuArrayCreate(shape))"
)
HOLDER = "open_device()\ncheck(driver.cuMemAlloc({gib} * GIB))\nready()\nrelease()"


def test_two_processes_share_what_one_card_has(machine: Installation) -> None:
    first = machine.start(HOLDER.format(gib=10))
    installation.await_ready(first)
    output = machine.run(
        "open_device()\nprint(check(driver.cuMemGetInfo())[0], int(driver.cuMemAlloc(6 * GIB)[0]))\n"
        "check(driver.cuMemAlloc(5 * GIB))"
    )
    installation.finish(first)
    assert output == f"{6 * GIB - 2 * CONTEXT} 2"
    assert machine.show().cards[0].refused == 1


def test_memory_of_a_killed_process_is_free_at_once(machine: Installation) -> None:
    client = machine.start(HOLDER.format(gib=15))
    installation.await_ready(client)
    assert machine.show().cards[0].used == 15 * GIB + CONTEXT
    installation.kill(client)
    assert machine.show().cards[0].used == 0
    assert machine.run("open_device()\nprint(check(driver.cuMemGetInfo())[0])") == str(16 * GIB - CONTEXT)


def test_nvml_reports_each_process_with_its_own_memory(machine: Installation) -> None:
    clients = {gib: machine.start(HOLDER.format(gib=gib)) for gib in (1, 2)}
    for client in clients.values():
        installation.await_ready(client)
    output = machine.run(
        "nvml.nvmlInit()\ncard = nvml.nvmlDeviceGetHandleByIndex(0)\n"
        "for process in nvml.nvmlDeviceGetComputeRunningProcesses(card): print(process.pid, process.usedGpuMemory)"
    )
    for client in clients.values():
        installation.finish(client)
    seen = {int(line.split()[0]): int(line.split()[1]) for line in output.splitlines()}
    assert seen == {client.pid: gib * GIB + CONTEXT for gib, client in clients.items()}


@pytest.mark.parametrize(
    ("allocate", "free", "charged"),
    [
        ("memory = check(driver.cuMemAllocManaged(64 * MIB, 1))", "driver.cuMemFree(memory)", 0),
        ("memory = check(driver.cuMemAllocPitch(1000, 1024, 4))[0]", "driver.cuMemFree(memory)", 1 << 20),
        ("memory = check(driver.cuMemAllocHost(64 * MIB))", "driver.cuMemFreeHost(memory)", 0),
        ("memory = check(driver.cuMemAllocAsync(64 * MIB, 0))", "driver.cuMemFreeAsync(memory, 0)", 64 << 20),
        (ARRAY, "driver.cuArrayDestroy(array)", 16 << 20),
    ],
)
def test_every_kind_of_allocation_is_charged_and_given_back(
    machine: Installation, allocate: str, free: str, charged: int
) -> None:
    client = machine.start(f"open_device()\n{allocate}\nready()\nrelease()\ncheck({free})\nready()\nrelease()")
    installation.await_ready(client)
    assert machine.show().cards[0].used == CONTEXT + charged
    installation.resume(client)
    assert machine.show().cards[0].used == CONTEXT
    installation.finish(client)


def test_physical_memory_is_charged_until_its_last_mapping_goes(machine: Installation) -> None:
    output = machine.run(
        "device = open_device()\n"
        "def used(): free, total = check(driver.cuMemGetInfo()); return (total - free) // MIB - 300\n"
        "props = driver.CUmemAllocationProp()\n"
        "props.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED\n"
        "props.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE\n"
        "handle = check(driver.cuMemCreate(64 * MIB, props, 0))\n"
        "address = check(driver.cuMemAddressReserve(64 * MIB, 0, 0, 0))\n"
        "check(driver.cuMemMap(address, 64 * MIB, 0, handle, 0))\n"
        "access = driver.CUmemAccessDesc()\naccess.location = props.location\n"
        "access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE\n"
        "check(driver.cuMemSetAccess(address, 64 * MIB, [access], 1))\n"
        "check(driver.cuMemsetD8(address, 7, 64))\n"
        "check(driver.cuMemRelease(handle))\nprint(used())\n"
        "check(driver.cuMemUnmap(address, 64 * MIB))\nprint(used())\n"
        "check(driver.cuMemAddressFree(address, 64 * MIB))"
    )
    assert output.split() == ["64", "0"]


def test_a_pool_keeps_freed_memory_up_to_its_threshold(machine: Installation) -> None:
    output = machine.run(
        "device = open_device()\n"
        "def used(): free, total = check(driver.cuMemGetInfo()); return (total - free) // MIB - 300\n"
        "pool = check(driver.cuDeviceGetDefaultMemPool(device))\n"
        "keep = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD\n"
        "check(driver.cuMemPoolSetAttribute(pool, keep, driver.cuuint64_t(32 * MIB)))\n"
        "memory = check(driver.cuMemAllocAsync(64 * MIB, 0))\nprint(used())\n"
        "check(driver.cuMemFreeAsync(memory, 0))\nprint(used())\n"
        "check(driver.cuMemPoolTrimTo(pool, 0))\nprint(used())"
    )
    assert output.split() == ["64", "32", "0"]


def test_shared_memory_is_seen_by_the_other_process_and_charged_once(machine: Installation) -> None:
    owner = machine.start(
        "open_device()\nmemory = check(driver.cuMemAlloc(64 * MIB))\ncheck(driver.cuMemsetD8(memory, 42, 100))\n"
        "handle = check(driver.cuIpcGetMemHandle(memory))\n"
        "ready(ctypes.string_at(handle.getPtr(), 64).hex())\nrelease()"
    )
    handle = installation.await_ready(owner)
    output = machine.run(
        "open_device()\n"
        f"handle = driver.CUipcMemHandle()\nctypes.memmove(handle.getPtr(), bytes.fromhex('{handle}'), 64)\n"
        "memory = check(driver.cuIpcOpenMemHandle(handle, 1))\nbyte = bytearray(1)\n"
        "check(driver.cuMemcpyDtoH(byte, int(memory) + 99, 1))\n"
        "free, total = check(driver.cuMemGetInfo())\nprint(byte[0], (total - free) // MIB)"
    )
    installation.finish(owner)
    assert output == "42 664"


def test_modules_and_contexts_are_charged_and_given_back(machine: Installation) -> None:
    client = machine.start(
        "device = open_device()\nkernel = Kernel('spin_ns', ctypes.c_uint64)\nready()\nrelease()\n"
        "check(driver.cuModuleUnload(kernel._module))\ncheck(driver.cuDevicePrimaryCtxRelease(device))\n"
        "ready()\nrelease()"
    )
    installation.await_ready(client)
    assert machine.show().cards[0].used == CONTEXT + MODULE
    installation.resume(client)
    assert machine.show().cards[0].used == 0
    installation.finish(client)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a PID namespace needs root")
def test_a_process_in_another_pid_namespace_has_the_pid_that_the_reader_sees(machine: Installation) -> None:
    program = f"from cuda_client import *\n{HOLDER.format(gib=1)}"
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", program]
    client = machine.spawn(command)
    installation.await_ready(client)
    (process,) = machine.show().cards[0].processes
    output = machine.run(
        "nvml.nvmlInit()\ncard = nvml.nvmlDeviceGetHandleByIndex(0)\n"
        "print(*[process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(card)])"
    )
    installation.finish(client)
    assert process.own_pid == 1
    assert process.pid > client.pid
    assert output == str(process.pid)


def test_a_forked_child_has_an_account_of_its_own(machine: Installation) -> None:
    client = machine.start(
        "import os\nopen_device()\ncheck(driver.cuMemAlloc(GIB))\nchild = os.fork()\n"
        "open_device()\ncheck(driver.cuMemAlloc(2 * GIB if child == 0 else GIB))\n"
        "if child == 0: ready(os.getpid())\n"
        "release()\n"
        "if child == 0: os._exit(0)\n"
        "os.waitpid(child, 0)"
    )
    child = int(installation.await_ready(client))
    seen = {process.pid: process.bytes for process in machine.show().cards[0].processes}
    installation.kill(client)
    assert seen == {client.pid: 2 * GIB + CONTEXT, child: 2 * GIB + CONTEXT}


RACER = (
    "import random\nopen_device()\nready()\nrelease()\nready()\nend, held = time.monotonic() + 1.5, []\n"
    "while time.monotonic() < end:\n"
    "    result = driver.cuMemAlloc(random.choice([1, 3, 7]) * 64 * MIB)\n"
    "    if int(result[0]) == 0: held.append(result[1])\n"
    "    elif held: check(driver.cuMemFree(held.pop(random.randrange(len(held)))))\n"
    "for memory in held: check(driver.cuMemFree(memory))\n"
    "ready()\nrelease()"
)


def test_racing_processes_never_overfill_a_card_and_a_killed_one_leaves_no_charge(machine: Installation) -> None:
    clients = [machine.start(RACER) for _ in range(3)]
    for client in clients:
        installation.await_ready(client)
    for client in clients:
        installation.resume(client)
    installation.kill(clients[0])
    for client in clients[1:]:
        installation.await_ready(client)
    free = int(machine.run("open_device()\nprint(check(driver.cuMemGetInfo())[0])"))
    card = machine.show().cards[0]
    for client in clients[1:]:
        installation.finish(client)
    assert card.refused > 0
    assert card.peak <= card.total
    assert card.used == 2 * CONTEXT
    assert free == card.total - 3 * CONTEXT


@pytest.mark.parametrize("code", ["open_device(); check(driver.cuMemAlloc(GIB))", "check(driver.cuInit(0))"])
def test_a_process_killed_while_it_holds_a_cards_lock_holds_up_nobody(machine: Installation, code: str) -> None:
    victim = machine.start(f"{code}; ready(); release()")
    installation.await_ready(victim)
    state = statefile.OpenState.at(machine.state).state
    (slot,) = [number for number, slot in enumerate(state.slots) if slot.taken and slot.pid == victim.pid]
    installation.kill(victim)
    state.cards[0].lock = slot + 1
    run = machine.command(
        sys.executable, "-c", "from cuda_client import *; open_device(); check(driver.cuMemAlloc(GIB))"
    )
    assert (run.returncode, state.cards[0].lock) == (0, 0)
    assert machine.show().cards[0].used == 0
