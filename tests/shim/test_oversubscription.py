"""A share that may swap: what goes beyond its memory lives in the host, and the card never holds more than its part."""

import pytest

from drivers import shim_abi as abi
from tests.shim.sharefiles import ShareFiles
from tests.shim.tenants import Container, Tenant
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20
CONTEXT = 300 * MIB


def swapping(container: Container, *, memory: int, swap: int, flags: int = abi.FLAG_OVERSUBSCRIBE) -> ShareFiles:
    share = container.share("one", memory=memory, flags=flags)
    share.write_limit("swap_bytes", swap)
    return share


USE = """
open_device()
half = 512 << 20
held = [check(driver.cuMemAlloc(half)) for _ in range(5)]
over = int(driver.cuMemAlloc(half)[0])
place = driver.CUmemLocation(); place.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
check(driver.cuMemPrefetchAsync(driver.CUdeviceptr(int(held[4]) + 4096), 4096, place, 0, 0))
kernel = Kernel("fill_u32", ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64)
check(kernel.launch(int(held[4]), 7, 1000)); check(driver.cuCtxSynchronize())
read = bytearray(4000); check(driver.cuMemcpyDtoH(read, held[4], 4000))
ready(over, set(read[::4]) == {7}, check(driver.cuMemGetInfo())[1]); release()
for memory in held: check(driver.cuMemFree(memory))
ready(); release()
"""


def test_beyond_its_memory_a_share_uses_the_host_up_to_what_it_may_swap(container: Container) -> None:
    share = swapping(container, memory=1 * GIB, swap=2 * GIB)
    client = container.machine.start(USE, **container.preloaded())
    assert installation.await_ready(client) == f"2 True {3 * GIB}"
    (process,) = share.processes()
    assert process["swap_bytes"] == 2 * GIB
    assert process["charged_bytes"] <= GIB
    if isinstance(container, Tenant):
        assert process["charged_bytes"] == container.machine.show().cards[0].used == CONTEXT + 512 * MIB + 2 * MIB
    installation.resume(client)
    (process,) = share.processes()
    assert (process["swap_bytes"], process["buffer_bytes"]) == (0, 0)
    installation.finish(client)
    if isinstance(container, Tenant):
        assert container.machine.show().cards[0].peak <= 1 * GIB


@pytest.mark.parametrize("flags", [0, abi.FLAG_DENY_ON_ERROR])
def test_a_share_that_may_not_swap_is_refused(container: Container, flags: int) -> None:
    swapping(container, memory=1 * GIB, swap=2 * GIB, flags=flags)
    code = "open_device(); print(int(driver.cuMemAlloc(1 << 30)[0]), check(driver.cuMemGetInfo())[1])"
    assert container.machine.run(code, **container.preloaded()) == f"2 {GIB}"


@pytest.mark.parametrize(
    ("allocate", "free"),
    [
        ("memory = check(driver.cuMemAllocAsync(1 << 30, 0))", "driver.cuMemFreeAsync(memory, 0)"),
        ("memory = check(driver.cuMemAllocPitch(1 << 20, 1 << 10, 4))[0]", "driver.cuMemFree(memory)"),
        ("memory = check(driver.cuMemAllocManaged(1 << 30, 1))", "driver.cuMemFree(memory)"),
        ("memory = check(driver.cuMemAlloc(1 << 30))", "driver.cuDevicePrimaryCtxRelease(0)"),
    ],
)
def test_every_kind_with_an_address_may_be_served_by_the_host_and_comes_back(
    container: Container, allocate: str, free: str
) -> None:
    share = swapping(container, memory=1 * GIB, swap=2 * GIB)
    code = f"open_device()\n{allocate}\nready(); release()\ncheck({free})\nready(); release()"
    client = container.machine.start(code, **container.preloaded())
    installation.await_ready(client)
    assert share.processes()[0]["swap_bytes"] == GIB
    installation.resume(client)
    assert share.processes()[0]["swap_bytes"] == 0
    installation.finish(client)


def test_every_question_about_memory_tells_the_sum(tenant: Tenant) -> None:
    swapping(tenant, memory=1 * GIB, swap=2 * GIB)
    code = """
open_device()
check(driver.cuMemAlloc(1 << 30)); check(driver.cuMemAlloc(256 << 20))
nvml.nvmlInit()
card = nvml.nvmlDeviceGetHandleByIndex(0)
free, total = check(driver.cuMemGetInfo())
answers = [(total, free)]
for version in (None, nvml.nvmlMemory_v2):
    memory = nvml.nvmlDeviceGetMemoryInfo(card, version)
    answers.append((memory.total, memory.free)); assert memory.used == memory.total - memory.free
print(check(driver.cuDeviceTotalMem(0)), *answers[0], len(set(answers)))
"""
    expected = f"{3 * GIB} {3 * GIB} {2 * GIB - CONTEXT - 256 * MIB} 1"
    assert tenant.machine.run(code, **tenant.preloaded()) == expected


def test_words_allow_it_too_and_the_log_says_so(container: Container) -> None:
    words = f"uuid={container.uuids[0]},memory={GIB},swap={2 * GIB}"
    output = container.machine.run(USE.replace("release()", ""), **container.preloaded(VGPU_SHARE_WORDS=words))
    assert output.split("\n")[0] == f"2 True {3 * GIB}"
    assert f"memory {GIB} bytes, swap {2 * GIB} bytes, cores 0 %" in container.log()


def test_racing_processes_share_out_exactly_what_may_be_swapped(tenant: Tenant) -> None:
    swapping(tenant, memory=8 * CONTEXT, swap=2 * GIB)
    code = "open_device(); ready(); release(); ready(int(driver.cuMemAlloc(512 << 20)[0])); release()"
    clients = [tenant.machine.start(code, **tenant.preloaded()) for _ in range(8)]
    for client in clients:
        installation.await_ready(client)
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("\n")
        client.stdin.flush()
    assert sorted(installation.await_ready(client) for client in clients) == ["0"] * 4 + ["2"] * 4
    for client in clients:
        installation.finish(client)


def test_what_a_killed_process_swapped_is_free_again(container: Container) -> None:
    share = swapping(container, memory=1 * GIB, swap=2 * GIB)
    survivor = container.machine.start("open_device(); ready(); release()", **container.preloaded())
    installation.await_ready(survivor)
    victim = container.machine.start(
        "open_device(); check(driver.cuMemAlloc(2 << 30)); ready(); release()", **container.preloaded()
    )
    installation.await_ready(victim)
    assert sum(process["swap_bytes"] for process in share.processes()) == 2 * GIB
    installation.kill(victim)
    wait_until(lambda: sum(process["swap_bytes"] for process in share.processes()) == 0)
    installation.finish(survivor)
