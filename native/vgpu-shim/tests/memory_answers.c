/* What the driver answers to questions about memory and to calls that cannot succeed: "question answer" lines,
 * for a comparison of the bare driver with the shim in front of it. Sizes are bytes, results are CUresult. */
#include <string.h>

#include "driver.h"

#define MIB (1ull << 20)

static void say(const char *question, unsigned long long answer) { printf("%s %llu\n", question, answer); }

#define RESULT(name, ...) (unsigned long long)CALL(name, #name)(__VA_ARGS__)

/* The shim does not call it, so that its generated header does not declare it. */
typedef CUresult (*address_range)(CUdeviceptr *, size_t *, CUdeviceptr);

static void ask_totals(void) {
    size_t free = 0, total = 0, bytes = 0;
    say("mem-get-info", RESULT(cuMemGetInfo_v2, &free, &total));
    say("total", total);
    say("device-total-result", RESULT(cuDeviceTotalMem_v2, &bytes, 0));
    say("device-total", bytes);
    say("device-total-of-no-device", RESULT(cuDeviceTotalMem_v2, &bytes, 99));
    say("free-is-what-is-left-of-total", free < total);
    say("mem-get-info-without-place", RESULT(cuMemGetInfo_v2, 0, &total));
    say("device-total-without-place", RESULT(cuDeviceTotalMem_v2, 0, 0));
}

static void ask_linear(void) {
    CUdeviceptr address = 0, base = 0;
    size_t size = 0, pitch = 0, free, total, before;
    must(CALL(cuMemGetInfo_v2, "cuMemGetInfo_v2")(&before, &total), "cuMemGetInfo_v2");
    say("alloc", RESULT(cuMemAlloc_v2, &address, 3 * MIB));
    must(CALL(cuMemGetInfo_v2, "cuMemGetInfo_v2")(&free, &total), "cuMemGetInfo_v2");
    say("alloc-takes", before - free);
    say("address-range", ((address_range)function("cuMemGetAddressRange_v2"))(&base, &size, address));
    say("address-range-size", size);
    say("alloc-without-place", RESULT(cuMemAlloc_v2, 0, MIB));
    say("alloc-of-nothing", RESULT(cuMemAlloc_v2, &base, 0));
    say("alloc-of-more-than-any-card", RESULT(cuMemAlloc_v2, &base, 1ull << 45));
    say("alloc-of-everything-imaginable", RESULT(cuMemAlloc_v2, &base, ~0ull));
    base = 0;
    say("alloc-of-eight-gib", RESULT(cuMemAlloc_v2, &base, 8ull << 30));
    must(CALL(cuMemFree_v2, "cuMemFree_v2")(base), "cuMemFree_v2"); /* of nothing, where it was refused */
    say("free", RESULT(cuMemFree_v2, address));
    say("free-again", RESULT(cuMemFree_v2, address));
    say("free-of-null", RESULT(cuMemFree_v2, 0));
    say("free-of-nonsense", RESULT(cuMemFree_v2, 12345));
    say("pitch", RESULT(cuMemAllocPitch_v2, &address, &pitch, 1000, 16, 4));
    say("pitch-bytes", pitch);
    say("pitch-without-place", RESULT(cuMemAllocPitch_v2, &address, 0, 1000, 16, 4));
    say("pitch-of-odd-elements", RESULT(cuMemAllocPitch_v2, &base, &pitch, 1000, 16, 3));
    must(CALL(cuMemFree_v2, "cuMemFree_v2")(address), "cuMemFree_v2");
    say("managed-with-wrong-flags", RESULT(cuMemAllocManaged, &base, MIB, 77));
    say("managed-without-place", RESULT(cuMemAllocManaged, 0, MIB, 1));
    must(CALL(cuMemGetInfo_v2, "cuMemGetInfo_v2")(&free, &total), "cuMemGetInfo_v2");
    say("nothing-is-left-behind", before - free);
}

static void ask_arrays(void) {
    CUarray array = 0;
    CUDA_ARRAY_DESCRIPTOR flat = {.Width = 64, .Height = 64, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 4};
    CUDA_ARRAY3D_DESCRIPTOR shape = {.Width = 64, .Height = 64, .Depth = 4, .Format = CU_AD_FORMAT_FLOAT};
    say("array", RESULT(cuArrayCreate_v2, &array, &flat));
    say("array-destroy", RESULT(cuArrayDestroy, array));
    say("array-without-shape", RESULT(cuArrayCreate_v2, &array, 0));
    say("array-without-channels", RESULT(cuArray3DCreate_v2, &array, &shape));
    say("array-destroy-null", RESULT(cuArrayDestroy, 0));
    say("array-without-place", RESULT(cuArray3DCreate_v2, 0, &shape));
}

static void ask_pools(void) {
    CUmemoryPool pool = 0;
    CUdeviceptr address = 0;
    cuuint64_t held = 99;
    say("pool", RESULT(cuDeviceGetDefaultMemPool, &pool, 0));
    say("pool-holds", RESULT(cuMemPoolGetAttribute, pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &held));
    say("pool-holds-bytes", held);
    say("async", RESULT(cuMemAllocAsync, &address, MIB, 0));
    must(CALL(cuMemPoolGetAttribute, "cuMemPoolGetAttribute")(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &held), "cuMemPoolGetAttribute");
    say("pool-holds-one", held);
    say("async-free", RESULT(cuMemFreeAsync, address, 0));
    say("async-free-again", RESULT(cuMemFreeAsync, address, 0));
    say("async-without-place", RESULT(cuMemAllocAsync, 0, MIB, 0));
    say("async-of-nothing", RESULT(cuMemAllocAsync, &address, 0, 0));
    address = 0;
    say("async-of-eight-gib", RESULT(cuMemAllocAsync, &address, 8ull << 30, 0));
    must(CALL(cuMemFree_v2, "cuMemFree_v2")(address), "cuMemFree_v2");
    say("async-from-no-pool", RESULT(cuMemAllocFromPoolAsync, &address, MIB, 0, 0));
    say("trim", RESULT(cuMemPoolTrimTo, pool, 0));
    say("trim-null", RESULT(cuMemPoolTrimTo, 0, 0));
    say("destroy-null", RESULT(cuMemPoolDestroy, 0));
    say("pool-create-without-wish", RESULT(cuMemPoolCreate, &pool, 0));
}

static void ask_physical(void) {
    CUmemGenericAllocationHandle handle = 0;
    CUmemAllocationProp wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    wanted.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    say("create", RESULT(cuMemCreate, &handle, 4 * MIB, &wanted, 0));
    say("release", RESULT(cuMemRelease, handle));
    say("create-of-odd-size", RESULT(cuMemCreate, &handle, 12345, &wanted, 0));
    say("create-of-eight-gib", RESULT(cuMemCreate, &handle, 8ull << 30, &wanted, 0));
    say("create-without-wish", RESULT(cuMemCreate, &handle, 4 * MIB, 0, 0));
    say("release-null", RESULT(cuMemRelease, 0));
    say("map-nothing", RESULT(cuMemMap, 0, 4 * MIB, 0, 0, 0));
    say("unmap-nothing", RESULT(cuMemUnmap, 0, 4 * MIB));
    say("map-array-without-list", RESULT(cuMemMapArrayAsync, 0, 1, 0));
    say("bind-to-nothing", RESULT(cuMulticastBindMem, 0, 0, 0, 0, 4 * MIB, 0));
}

static void ask_graphs(void) {
    CUgraphExec run = 0;
    cuuint64_t held = 99;
    say("graph-instantiate-null", RESULT(cuGraphInstantiateWithFlags, &run, 0, 0));
    say("graph-instantiate-without-place", RESULT(cuGraphInstantiateWithFlags, 0, 0, 0));
    say("graph-launch-null", RESULT(cuGraphLaunch, 0, 0));
    say("graph-upload-null", RESULT(cuGraphUpload, 0, 0));
    say("graph-destroy-null", RESULT(cuGraphExecDestroy, 0));
    say("graph-trim", RESULT(cuDeviceGraphMemTrim, 0));
    say("graph-trim-no-device", RESULT(cuDeviceGraphMemTrim, 99));
    must(CALL(cuDeviceGetGraphMemAttribute, "cuDeviceGetGraphMemAttribute")(0, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &held), "cuDeviceGetGraphMemAttribute");
    say("graphs-hold", held);
}

static void ask_contexts(void) {
    CUcontext context = 0;
    CUmodule module = 0;
    say("retain-no-device", RESULT(cuDevicePrimaryCtxRetain, &context, 99));
    say("retain-without-place", RESULT(cuDevicePrimaryCtxRetain, 0, 0));
    say("context", RESULT(cuCtxCreate_v2, &context, 0, 0));
    say("context-destroy", RESULT(cuCtxDestroy_v2, context));
    say("context-destroy-null", RESULT(cuCtxDestroy_v2, 0));
    say("context-without-place", RESULT(cuCtxCreate_v2, 0, 0, 0));
    say("module-without-image", RESULT(cuModuleLoadData, &module, 0));
    say("module-of-no-file", RESULT(cuModuleLoad, &module, "/no/such/file"));
    say("module-unload-null", RESULT(cuModuleUnload, 0));
    say("green-without-part", RESULT(cuGreenCtxCreate, 0, 0, 0, 1));
    say("green-destroy-null", RESULT(cuGreenCtxDestroy, 0));
    say("external-without-wish", RESULT(cuImportExternalMemory, 0, 0));
    say("external-destroy-null", RESULT(cuDestroyExternalMemory, 0));
    say("advise-nonsense", RESULT(cuMemAdvise, 12345, 1, 1, 0));
    say("prefetch-nonsense", RESULT(cuMemPrefetchAsync, 12345, 1, 0, 0));
}

int main(void) {
    use_device(0);
    ask_totals();
    ask_linear();
    ask_arrays();
    ask_pools();
    ask_physical();
    ask_graphs();
    ask_contexts();
    return 0;
}
