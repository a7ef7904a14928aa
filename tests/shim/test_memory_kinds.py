"""Every way to get device memory is charged what the card really gives, and not twice."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.tenants import Container, Tenant
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20
CHUNK = 32 * MIB
LATE = 64 * MIB


@pytest.fixture
def chunky(tmp_path: Path) -> Iterator[Tenant]:
    """A card like real ones: pools grow by 32 MiB, and code comes to the card when it is first launched."""
    cards = tmp_path / "cards.json"
    cards.write_text(json.dumps({"count": 1, "defaults": {"pool_chunk": CHUNK, "lazy_bytes": LATE}}))
    made = installation.make(tmp_path / "chunky", cards)
    yield Tenant(made, tmp_path / "shares")
    made.end_clients()


SETTING = """
import os
open_device()
M = 1 << 20
start = check(driver.cuMemGetInfo())[0]
left = lambda: (start - check(driver.cuMemGetInfo())[0]) / M
place = driver.CUmemLocation()
place.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
pinned = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
physical = driver.CUmemAllocationProp()
physical.type, physical.location = pinned, place
"""


def told(container: Container, code: str) -> list[object]:
    """What a program with a share of 4 GiB prints as JSON in its last line."""
    container.share("one", memory=4 * GIB)
    answer: list[object] = json.loads(container.machine.run(SETTING + code, **container.preloaded()).splitlines()[-1])
    return answer


GRAPH = """
def graph_of(*sizes, free=True):
    graph = check(driver.cuGraphCreate(0))
    for size in sizes:
        wanted = driver.CUDA_MEM_ALLOC_NODE_PARAMS()
        wanted.bytesize, wanted.poolProps.allocType, wanted.poolProps.location = size, pinned, place
        node = check(driver.cuGraphAddMemAllocNode(graph, None, 0, wanted))
        if free: check(driver.cuGraphAddMemFreeNode(graph, [node], 1, wanted.dptr))
    return graph, wanted.dptr
"""


def test_graph_memory_is_charged_from_its_launch_until_it_is_trimmed(tenant: Tenant) -> None:
    code = (
        GRAPH
        + """
graph, _ = graph_of(8 * M)
outer = check(driver.cuGraphCreate(0)); check(driver.cuGraphAddChildGraphNode(outer, None, 0, graph))
seen = [left()]
run = check(driver.cuGraphInstantiate(outer, 0)); seen.append(left())
for _ in range(3): check(driver.cuGraphLaunch(run, 0))
seen.append(left())
check(driver.cuGraphExecDestroy(run)); seen.append(left())
check(driver.cuDeviceGraphMemTrim(0)); seen.append(left())
import json; print(json.dumps(seen))
"""
    )
    assert told(tenant, code) == [0, 0, 8, 8, 0]


def test_a_graph_that_wants_more_than_is_left_is_refused_before_it_runs(container: Container) -> None:
    code = (
        GRAPH
        + """
graph, _ = graph_of(5 << 30)
run = check(driver.cuGraphInstantiate(graph, 0))
seen = [int(driver.cuGraphLaunch(run, 0)[0]), left(), int(driver.cuGraphUpload(run, 0)[0]), left()]
import json; print(json.dumps(seen))
"""
    )
    assert told(container, code) == [2, 0, 2, 0]
    if isinstance(container, Tenant):
        assert container.machine.show().cards[0].peak < 4 * GIB


def test_memory_that_graphs_and_pools_keep_unused_makes_room_for_an_allocation(tenant: Tenant) -> None:
    code = (
        GRAPH
        + """
graph, _ = graph_of(1 << 30)
check(driver.cuGraphLaunch(check(driver.cuGraphInstantiate(graph, 0)), 0))
pool = check(driver.cuDeviceGetDefaultMemPool(0))
check(driver.cuMemPoolSetAttribute(pool, driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                                   driver.cuuint64_t(4 << 30)))
check(driver.cuMemFreeAsync(check(driver.cuMemAllocAsync(1 << 30, 0)), 0))
seen = [left(), int(driver.cuMemAlloc(3 << 30)[0]), left()]
import json; print(json.dumps(seen))
"""
    )
    assert told(tenant, code) == [2048, 0, 3072]


def test_an_allocation_in_a_captured_stream_belongs_to_the_graph(tenant: Tenant) -> None:
    code = """
stream = check(driver.cuStreamCreate(0))
check(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
memory = check(driver.cuMemAllocAsync(16 * M, stream)); seen = [left()]
check(driver.cuMemFreeAsync(memory, stream))
run = check(driver.cuGraphInstantiate(check(driver.cuStreamEndCapture(stream)), 0)); seen.append(left())
check(driver.cuGraphLaunch(run, stream)); seen.append(left())
import json; print(json.dumps(seen))
"""
    assert told(tenant, code) == [0, 0, 16]


def test_a_node_of_the_general_kind_is_charged_as_the_special_one(tenant: Tenant) -> None:
    code = """
graph = check(driver.cuGraphCreate(0))
wanted = driver.CUgraphNodeParams()
wanted.type = driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_MEM_ALLOC
wanted.alloc.bytesize, wanted.alloc.poolProps.allocType, wanted.alloc.poolProps.location = 4 * M, pinned, place
check(driver.cuGraphAddNode(graph, None, None, 0, wanted))
check(driver.cuGraphLaunch(check(driver.cuGraphInstantiate(graph, 0)), 0))
import json; print(json.dumps([left()]))
"""
    assert told(tenant, code) == [4]


def test_a_pool_is_charged_the_chunks_that_it_takes_and_never_beyond_the_limit(chunky: Tenant) -> None:
    code = """
stream = check(driver.cuStreamCreate(0))
first = check(driver.cuMemAllocAsync(M, stream)); seen = [left()]
more = 0
while True:
    result, memory = driver.cuMemAllocAsync(5 * M, stream)
    if int(result): break
    more += 1
rest = check(driver.cuMemGetInfo())[0]
seen += [int(result), rest < 32 * M, int(driver.cuMemAlloc(rest)[0])]
check(driver.cuMemFreeAsync(first, stream))
import json; print(json.dumps(seen))
"""
    assert told(chunky, code) == [32, 2, True, 0]
    assert chunky.machine.show().cards[0].peak <= 4 * GIB


def test_memory_of_a_pool_is_charged_on_the_card_of_the_pool(tenant: Tenant) -> None:
    shares = [tenant.share("a", card=0, memory=4 * GIB), tenant.share("b", card=1, memory=4 * GIB)]
    code = """
wanted = driver.CUmemPoolProps(); wanted.allocType = pinned; place.id = 1; wanted.location = place
check(driver.cuDevicePrimaryCtxRetain(1))
pool = check(driver.cuMemPoolCreate(wanted))
check(driver.cuMemAllocFromPoolAsync(64 * M, pool, 0)); ready(); release()
"""
    client = tenant.machine.start(SETTING + code, **tenant.preloaded())
    installation.await_ready(client)
    assert [share.processes()[0]["buffer_bytes"] for share in shares] == [0, 64 * MIB]
    installation.finish(client)


def test_memory_mapped_into_a_sparse_array_is_charged_until_the_last_tile_goes(tenant: Tenant) -> None:
    code = """
shape = driver.CUDA_ARRAY3D_DESCRIPTOR()
shape.Width, shape.Height, shape.NumChannels, shape.Flags = 4096, 4096, 4, driver.CUDA_ARRAY3D_SPARSE
shape.Format = driver.CUarray_format.CU_AD_FORMAT_UNSIGNED_INT8
array = check(driver.cuArray3DCreate(shape)); seen = [left()]
memory = check(driver.cuMemCreate(4 * M, physical, 0))
def tile(x, operation):
    info = driver.CUarrayMapInfo()
    info.resourceType = driver.CUresourcetype.CU_RESOURCE_TYPE_ARRAY
    info.resource.array = array
    level = info.subresource.sparseLevel
    level.offsetX, level.extentWidth, level.extentHeight, level.extentDepth = x, 128, 128, 1
    info.memOperationType = operation
    info.memHandleType = driver.CUmemHandleType.CU_MEM_HANDLE_TYPE_GENERIC
    info.memHandle.memHandle = memory
    check(driver.cuMemMapArrayAsync([info], 1, 0))
there, gone = driver.CUmemOperationType.CU_MEM_OPERATION_TYPE_MAP, driver.CUmemOperationType.CU_MEM_OPERATION_TYPE_UNMAP
tile(0, there); tile(128, there); check(driver.cuMemRelease(memory)); seen.append(left())
tile(0, gone); seen.append(left()); tile(128, gone); seen.append(left())
memory = check(driver.cuMemCreate(4 * M, physical, 0)); tile(0, there); check(driver.cuMemRelease(memory))
seen.append(left()); check(driver.cuArrayDestroy(array)); seen.append(left())
import json; print(json.dumps(seen))
"""
    assert told(tenant, code) == [0, 4, 4, 0, 4, 0]


@pytest.mark.parametrize(
    "end", ["check(driver.cuMulticastUnbind(team, 0, 0, 4 * M))", "check(driver.cuMemRelease(team))"]
)
def test_memory_bound_to_a_multicast_object_is_charged_until_it_is_unbound(tenant: Tenant, end: str) -> None:
    code = f"""
shape = driver.CUmulticastObjectProp(); shape.numDevices = 1; shape.size = 4 * M
team = check(driver.cuMulticastCreate(shape)); check(driver.cuMulticastAddDevice(team, 0))
memory = check(driver.cuMemCreate(4 * M, physical, 0))
check(driver.cuMulticastBindMem(team, 0, memory, 0, 4 * M, 0)); seen = [left()]
check(driver.cuMemRelease(memory)); seen.append(left())
{end}; seen.append(left())
import json; print(json.dumps(seen))
"""
    assert told(tenant, code) == [4, 4, 0]


def test_external_memory_is_charged_to_who_imports_it(tenant: Tenant) -> None:
    code = """
wanted = driver.CUDA_EXTERNAL_MEMORY_HANDLE_DESC()
wanted.type = driver.CUexternalMemoryHandleType.CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD
wanted.handle.fd, wanted.size = os.open("/dev/null", os.O_RDONLY), 16 * M
memory = check(driver.cuImportExternalMemory(wanted)); seen = [left()]
check(driver.cuDestroyExternalMemory(memory)); seen.append(left())
wanted.size = 5 << 30
seen.append(int(driver.cuImportExternalMemory(wanted)[0]))
import json; print(json.dumps(seen))
"""
    assert told(tenant, code) == [16, 0, 2]


def test_imported_and_host_memory_is_not_charged(container: Container) -> None:
    code = """
memory = check(driver.cuMemAlloc(8 * M)); handle = check(driver.cuIpcGetMemHandle(memory)); seen = [left()]
check(driver.cuIpcOpenMemHandle(handle, 1)); seen.append(left())
kind = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
physical.requestedHandleTypes = kind
made = check(driver.cuMemCreate(4 * M, physical, 0)); seen.append(left())
other = check(driver.cuMemImportFromShareableHandle(check(driver.cuMemExportToShareableHandle(made, kind, 0)), kind))
seen.append(left())
address = check(driver.cuMemAddressReserve(4 * M, 0, 0, 0)); check(driver.cuMemMap(address, 4 * M, 0, other, 0))
check(driver.cuMemAllocHost(64 * M)); check(driver.cuMemHostAlloc(64 * M, 0)); seen.append(left())
import json; print(json.dumps(seen))
"""
    assert told(container, code) == [8, 8, 12, 12, 12]


def test_a_green_context_is_charged_as_the_primary_context_that_it_keeps(tenant: Tenant) -> None:
    share = tenant.share("one", memory=4 * GIB)
    code = """
check(driver.cuInit(0))
part = check(driver.cuDeviceGetDevResource(0, driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM))
green = check(driver.cuGreenCtxCreate(check(driver.cuDevResourceGenerateDesc([part], 1)), 0, 1))
ready(); release()
check(driver.cuGreenCtxDestroy(green)); ready(); release()
"""
    client = tenant.machine.start(code, **tenant.preloaded())
    installation.await_ready(client)
    assert share.usage("charged_bytes") == tenant.machine.show().cards[0].used == 300 * MIB
    installation.resume(client)
    assert share.usage("charged_bytes") == tenant.machine.show().cards[0].used == 0
    installation.finish(client)


def test_code_that_comes_to_the_card_late_is_charged_when_it_is_there(chunky: Tenant) -> None:
    share = chunky.share("one", memory=4 * GIB)
    code = """
open_device()
kernel = Kernel("spin_ns", ctypes.c_uint64); ready(); release()
check(kernel.launch(1000)); ready(); release()
"""
    client = chunky.machine.start(code, **chunky.preloaded())
    installation.await_ready(client)
    (process,) = share.processes()
    assert process["module_bytes"] == 2 * MIB
    installation.resume(client)
    wait_until(lambda: share.processes()[0]["module_bytes"] > LATE)
    card = chunky.machine.show().cards[0].used
    assert 0 <= card - share.usage("charged_bytes") <= 4 * MIB  # what the driver's rounding alone may explain
    installation.finish(client)


def test_a_refusal_is_counted_once_and_an_allocation_that_found_room_never(container: Container) -> None:
    share = container.share("one", memory=4 * GIB)
    code = """
pool = check(driver.cuDeviceGetDefaultMemPool(0))
check(driver.cuMemPoolSetAttribute(pool, driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                                   driver.cuuint64_t(4 << 30)))
check(driver.cuMemFreeAsync(check(driver.cuMemAllocAsync(2 << 30, 0)), 0))
check(driver.cuMemAlloc(3 << 30)); ready(); release()
print(int(driver.cuMemAllocAsync(2 << 30, 0)[0]), int(driver.cuMemAlloc(2 << 30)[0])); ready(); release()
"""
    client = container.machine.start(SETTING + code, **container.preloaded())
    installation.await_ready(client)
    assert share.processes()[0]["refused"] == 0
    assert installation.resume(client) == "2 2"
    installation.await_ready(client)
    (process,) = share.processes()
    assert (process["refused"], process["refused_bytes"]) == (2, 4 * GIB)
    installation.finish(client)
