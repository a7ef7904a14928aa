"""The memory limit of a share: exact, for all processes of it together, whatever happens to them."""

import json

from tests.shim.tenants import Container, Tenant
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20

FILL = """
open_device({ordinal})
free, total = check(driver.cuMemGetInfo())
first = check(driver.cuMemAlloc(free))
over = int(driver.cuMemAlloc(1)[0])
after = check(driver.cuMemGetInfo())[0]
check(driver.cuMemFree(first))
too_much = int(driver.cuMemAlloc(free + 1)[0])
again = int(driver.cuMemAlloc(free)[0])
print(free, total, over, after, too_much, again)
"""


def test_a_share_is_filled_to_the_last_byte_and_refused_the_next(container: Container) -> None:
    share = container.share("one", memory=4 * GIB)
    words = container.machine.run(FILL.format(ordinal=0), **container.preloaded()).split()
    free, total, over, after, too_much, again = map(int, words)
    context = 4 * GIB - free
    assert total == 4 * GIB
    assert 0 < context < GIB
    assert (over, after, too_much, again) == (2, 0, 2, 0)
    assert share.usage("peak_bytes") == 4 * GIB


def test_without_the_shim_the_same_program_fills_the_card(tenant: Tenant) -> None:
    tenant.share("one", memory=4 * GIB)
    total = int(tenant.machine.run(FILL.format(ordinal=0)).split()[1])
    assert total == 16 * GIB


def test_a_share_from_the_environment_alone_is_enforced(container: Container) -> None:
    words = f"uuid={container.uuids[0]},memory={3 * GIB},cores=30,policy=fixed,priority=high"
    output = container.machine.run(FILL.format(ordinal=0), **container.preloaded(VGPU_SHARE_ALONE=words))
    assert output.split()[1:3] == [str(3 * GIB), "2"]
    assert (container.shares / "ALONE" / "usage").stat().st_size == 262144


def test_the_file_wins_over_the_variable(container: Container) -> None:
    container.share("ONE", memory=2 * GIB)
    words = f"uuid={container.uuids[0]},memory={8 * GIB}"
    output = container.machine.run(FILL.format(ordinal=0), **container.preloaded(VGPU_SHARE_ONE=words))
    assert output.split()[1] == str(2 * GIB)


def test_two_shares_of_one_card_add_up_and_one_allocation_may_span_both(container: Container) -> None:
    shares = [container.share("a", memory=1 * GIB), container.share("b", memory=2 * GIB)]
    code = FILL.format(ordinal=0) + "ready('full'); release()"
    client = container.machine.start(code, **container.preloaded())
    words = installation.await_ready(client).split()
    assert words[1:4] == [str(3 * GIB), "2", "0"]
    installation.await_ready(client)
    assert [share.usage("charged_bytes") for share in shares] == [1 * GIB, 2 * GIB]
    installation.finish(client)


def test_reordered_devices_keep_their_own_limits_with_nvml_first(container: Container) -> None:
    container.need_cards(2)
    container.share("a", card=0, memory=2 * GIB)
    container.share("b", card=1, memory=5 * GIB)
    code = """
nvml.nvmlInit()
seen = [nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(i)).total for i in range(2)]
check(driver.cuInit(0))
seen += [check(driver.cuDeviceTotalMem(check(driver.cuDeviceGet(i)))) for i in range(2)]
print(*seen)
"""
    output = container.machine.run(code, **container.preloaded(CUDA_VISIBLE_DEVICES="1,0"))
    assert [int(word) // GIB for word in output.split()] == [2, 5, 5, 2]


KINDS = """
open_device()
start = check(driver.cuMemGetInfo())[0]
left = lambda: start - check(driver.cuMemGetInfo())[0]
M = 1 << 20
seen = {}
p = check(driver.cuMemAllocManaged(M, driver.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value)); seen["managed"] = left()
check(driver.cuMemFree(p))
p, pitch = check(driver.cuMemAllocPitch(1000, 1024, 4)); seen["pitch"] = left() - pitch * 1024
check(driver.cuMemFree(p))
shape = driver.CUDA_ARRAY_DESCRIPTOR()
shape.Width, shape.Height, shape.NumChannels = 512, 512, 4
shape.Format = driver.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8
a = check(driver.cuArrayCreate(shape)); seen["array"] = left()
check(driver.cuArrayDestroy(a))
p = check(driver.cuMemAllocAsync(3 * M, 0)); seen["async"] = left() >= 3 * M
check(driver.cuMemFreeAsync(p, 0)); check(driver.cuStreamSynchronize(0))
check(driver.cuMemPoolTrimTo(check(driver.cuDeviceGetDefaultMemPool(0)), 0))
seen["after"] = left()
wanted = driver.CUmemAllocationProp()
wanted.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
wanted.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
wanted.location.id = 0
h = check(driver.cuMemCreate(4 * M, wanted, 0)); seen["created"] = left()
va = check(driver.cuMemAddressReserve(4 * M, 0, 0, 0)); check(driver.cuMemMap(va, 4 * M, 0, h, 0))
check(driver.cuMemRelease(h)); seen["released, still mapped"] = left()
check(driver.cuMemUnmap(va, 4 * M)); seen["unmapped"] = left()
import json; print(json.dumps(seen))
"""


def test_every_kind_of_device_memory_is_charged_and_given_back(container: Container) -> None:
    container.share("one", memory=4 * GIB)
    seen = json.loads(container.machine.run(KINDS, **container.preloaded()))
    assert seen == {
        "managed": MIB,
        "pitch": 0,
        "array": MIB,
        "async": True,
        "after": 0,
        "created": 4 * MIB,
        "released, still mapped": 4 * MIB,
        "unmapped": 0,
    }


def test_a_destroyed_context_gives_back_all_that_it_held(container: Container) -> None:
    share = container.share("one", memory=4 * GIB)
    code = """
open_device()
check(driver.cuMemAlloc(1 << 30))
check(driver.cuDevicePrimaryCtxRelease(0))
ready(); release()
"""
    client = container.machine.start(code, **container.preloaded())
    installation.await_ready(client)
    assert share.usage("charged_bytes") == 0
    installation.finish(client)


HOLD = "open_device(); check(driver.cuMemAlloc(1 << 30)); ready('held'); release()"


def test_a_killed_process_leaves_no_charge_while_another_lives(container: Container) -> None:
    share = container.share("one", memory=4 * GIB)
    survivor = container.machine.start("open_device(); ready('up'); release()", **container.preloaded())
    installation.await_ready(survivor)
    alone = share.usage("charged_bytes")
    victim = container.machine.start(HOLD, **container.preloaded())
    installation.await_ready(victim)
    assert share.usage("charged_bytes") > alone + GIB
    installation.kill(victim)
    wait_until(lambda: share.usage("charged_bytes") == alone)
    assert len(share.processes()) == 1
    installation.finish(survivor)


def test_a_killed_process_is_no_obstacle_to_the_next(container: Container) -> None:
    share = container.share("one", memory=4 * GIB)
    victim = container.machine.start(HOLD, **container.preloaded())
    installation.await_ready(victim)
    installation.kill(victim)
    assert share.usage("charged_bytes") > GIB
    words = container.machine.run(FILL.format(ordinal=0), **container.preloaded()).split()
    assert words[2:] == ["2", "0", "2", "0"]


def test_growing_and_shrinking_the_limit_takes_effect_at_once(container: Container) -> None:
    share = container.share("one", memory=1 * GIB)
    code = """
open_device()
for _ in range(3):
    ready(int(driver.cuMemAlloc(1 << 30)[0]), check(driver.cuMemGetInfo())[1]); release()
"""
    client = container.machine.start(code, **container.preloaded())
    assert installation.await_ready(client) == f"2 {GIB}"
    share.write_limit("memory_current_bytes", 4 * GIB)
    assert installation.resume(client) == f"0 {4 * GIB}"
    share.write_limit("memory_current_bytes", 1 * GIB)
    assert installation.resume(client) == f"2 {GIB}"
    installation.finish(client)


def test_a_forked_child_is_charged_for_itself_only(container: Container) -> None:
    share = container.share("one", memory=4 * GIB)
    code = """
import os
nvml.nvmlInit()
nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(0))
child = os.fork()
open_device()
check(driver.cuMemAlloc(1 << 30))
if child:
    os.waitpid(child, 0)
    ready('parent'); release()
else:
    os._exit(0)
"""
    client = container.machine.start(code, **container.preloaded())
    installation.await_ready(client)
    wait_until(lambda: len(share.processes()) == 1)
    (process,) = share.processes()
    assert process["pid"] == client.pid
    assert process["buffer_bytes"] == GIB
    wait_until(lambda: share.usage("charged_bytes") == process["charged_bytes"])
    installation.finish(client)
