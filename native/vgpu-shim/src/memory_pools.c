/* Stream-ordered memory: a pool is charged what it holds, which is at least what lives in it and as much as
 * its release threshold lets it keep. */
#include <stdlib.h>
#include <string.h>

#include "holdings.h"
#include "pools.h"
#include "reserves.h"
#include "swap.h"

#define ROUND 512ull /* what the driver rounds each allocation to */

/* One pool of the driver. Kept for as long as the process lives: pools are few. */
struct pool {
    struct vgpu_reserve reserve; /* first: `held` is asked with it */
    CUmemoryPool handle;
    bool gone; /* destroyed; the handle may name another pool one day */
    struct pool *next;
};

static struct pool *pools;
static struct vgpu_lock pools_lock;
static struct vgpu_ledger pooled_addresses;

static uint64_t rounded(uint64_t size) { return size > UINT64_MAX - ROUND ? size : (size + ROUND - 1) & ~(ROUND - 1); }

static uint64_t held_by_driver(const struct vgpu_reserve *reserve) {
    const struct pool *pool = (const struct pool *)reserve;
    cuuint64_t held = 0;
    if (__atomic_load_n(&pool->gone, __ATOMIC_RELAXED)) return 0;
    CUresult result = REAL(cuMemPoolGetAttribute)(pool->handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &held);
    return result == CUDA_SUCCESS ? held : 0;
}

static struct pool *find(CUmemoryPool handle) {
    vgpu_lock(&pools_lock);
    struct pool *pool = pools;
    while (pool && (pool->gone || pool->handle != handle)) pool = pool->next;
    vgpu_unlock(&pools_lock);
    return pool;
}

/* Remembers a pool; its memory is charged on `device`, or nowhere when that is NULL. */
static struct pool *add(CUmemoryPool handle, struct vgpu_device *device) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return 0;
    pool->handle = handle;
    pool->reserve.charge.device = device;
    pool->reserve.charge.kind = VGPU_KIND_BUFFER;
    pool->reserve.held = held_by_driver;
    vgpu_lock(&pools_lock);
    pool->next = pools;
    pools = pool;
    vgpu_unlock(&pools_lock);
    return pool;
}

/* The card of a pool that this library did not see being made: a default one, or else the current context's. */
static struct vgpu_device *card_of(CUmemoryPool handle) {
    CUmemoryPool usual;
    int count = 0;
    REAL(cuDeviceGetCount)(&count);
    for (CUdevice ordinal = 0; ordinal < count; ordinal++)
        if (REAL(cuDeviceGetDefaultMemPool)(&usual, ordinal) == CUDA_SUCCESS && usual == handle)
            return vgpu_card_of_ordinal(ordinal);
    return vgpu_card_of_current_context();
}

static struct pool *pool_of(CUmemoryPool handle) {
    struct pool *pool = find(handle);
    return pool ? pool : add(handle, card_of(handle));
}

static struct pool *current_pool(void) {
    CUdevice ordinal;
    CUmemoryPool handle;
    if (REAL(cuCtxGetDevice)(&ordinal) != CUDA_SUCCESS || !vgpu_card_of_ordinal(ordinal)) return 0;
    return REAL(cuDeviceGetMemPool)(&handle, ordinal) == CUDA_SUCCESS ? pool_of(handle) : 0;
}

/* Memory of a captured stream belongs to a graph: see memory_graphs.c. */
static bool is_capturing(CUstream stream, bool per_thread) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUresult result = per_thread ? REAL(cuStreamIsCapturing_ptsz)(stream, &status) : REAL(cuStreamIsCapturing)(stream, &status);
    return result == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

static bool begin(struct pool *pool, uint64_t size) {
    if (vgpu_reserve_begin(&pool->reserve, size)) return true;
    if (vgpu_reserves_reclaim(pool->reserve.charge.device) && vgpu_reserve_begin(&pool->reserve, size)) return true;
    vgpu_charge_refused(pool->reserve.charge.device, size);
    return false;
}

static void enter(struct pool *pool, CUdeviceptr address, uint64_t size) {
    struct vgpu_holding holding;
    memset(&holding, 0, sizeof holding);
    holding.record = pool;
    holding.size = size;
    vgpu_ledger_put(&pooled_addresses, address, &holding);
}

/* After the driver's answer. A pool that grew beyond the limit gives the allocation, and what it grew by, back. */
static CUresult settle(struct pool *pool, CUresult result, CUdeviceptr address, uint64_t size, CUstream stream,
                       bool per_thread) {
    bool fits = vgpu_reserve_end(&pool->reserve, result == CUDA_SUCCESS ? 0 : size);
    if (result != CUDA_SUCCESS) return result;
    if (fits) {
        enter(pool, address, size);
        return CUDA_SUCCESS;
    }
    if (per_thread) REAL(cuMemFreeAsync_ptsz)(address, stream);
    else REAL(cuMemFreeAsync)(address, stream);
    REAL(cuStreamSynchronize)(stream);
    REAL(cuMemPoolTrimTo)(pool->handle, 0);
    vgpu_reserve_end(&pool->reserve, size);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult vgpu_mem_alloc_async(enum vgpu_function id, CUdeviceptr *address, size_t size, CUstream stream) {
    bool per_thread = id == VGPU_cuMemAllocAsync_ptsz;
    struct pool *pool = address && !is_capturing(stream, per_thread) ? current_pool() : 0;
    if (!pool || !pool->reserve.charge.device) return REAL_AS(cuMemAllocAsync, id)(address, size, stream);
    if (!begin(pool, rounded(size))) return vgpu_swap_alloc(address, size);
    CUresult result = REAL_AS(cuMemAllocAsync, id)(address, size, stream);
    return settle(pool, result, *address, rounded(size), stream, per_thread);
}

CUresult vgpu_mem_alloc_from_pool_async(enum vgpu_function id, CUdeviceptr *address, size_t size, CUmemoryPool handle,
                                        CUstream stream) {
    bool per_thread = id == VGPU_cuMemAllocFromPoolAsync_ptsz;
    struct pool *pool = address && handle && !is_capturing(stream, per_thread) ? pool_of(handle) : 0;
    if (!pool || !pool->reserve.charge.device) return REAL_AS(cuMemAllocFromPoolAsync, id)(address, size, handle, stream);
    if (!begin(pool, rounded(size))) return vgpu_swap_alloc(address, size);
    CUresult result = REAL_AS(cuMemAllocFromPoolAsync, id)(address, size, handle, stream);
    return settle(pool, result, *address, rounded(size), stream, per_thread);
}

CUresult vgpu_free_pooled(CUdeviceptr address, CUresult (*free)(void *), void *argument, bool *pooled) {
    struct vgpu_holding holding;
    *pooled = vgpu_ledger_take(&pooled_addresses, address, &holding);
    CUresult result = *pooled ? free(argument) : CUDA_SUCCESS;
    if (*pooled && result == CUDA_SUCCESS) vgpu_reserve_end(&((struct pool *)holding.record)->reserve, holding.size);
    if (*pooled && result != CUDA_SUCCESS) vgpu_ledger_put(&pooled_addresses, address, &holding);
    return result;
}

struct stream_free {
    enum vgpu_function id;
    CUdeviceptr address;
    CUstream stream;
};

static CUresult free_on_stream(void *argument) {
    struct stream_free *wanted = argument;
    return REAL_AS(cuMemFreeAsync, wanted->id)(wanted->address, wanted->stream);
}

/* Memory that came from the host in place of a pool: freed when the stream has come so far. */
static CUresult free_swapped(void *argument) {
    struct stream_free *wanted = argument;
    bool per_thread = wanted->id == VGPU_cuMemFreeAsync_ptsz;
    CUresult result = per_thread ? REAL(cuStreamSynchronize_ptsz)(wanted->stream) : REAL(cuStreamSynchronize)(wanted->stream);
    return result == CUDA_SUCCESS ? REAL(cuMemFree_v2)(wanted->address) : result;
}

CUresult vgpu_mem_free_async(enum vgpu_function id, CUdeviceptr address, CUstream stream) {
    struct stream_free wanted = {id, address, stream};
    bool pooled;
    CUresult result = vgpu_free_pooled(address, free_on_stream, &wanted, &pooled);
    if (pooled) return result;
    return vgpu_release(&vgpu_linear, address, vgpu_is_swapped(address) ? free_swapped : free_on_stream, &wanted);
}

CUresult vgpu_mem_pool_create(enum vgpu_function id, CUmemoryPool *handle, const CUmemPoolProps *wanted) {
    CUresult result = REAL_AS(cuMemPoolCreate, id)(handle, wanted);
    if (result != CUDA_SUCCESS) return result;
    bool on_card = wanted->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    add(*handle, on_card ? vgpu_card_of_ordinal(wanted->location.id) : 0);
    return result;
}

CUresult vgpu_mem_pool_trim_to(enum vgpu_function id, CUmemoryPool handle, size_t keep) {
    CUresult result = REAL_AS(cuMemPoolTrimTo, id)(handle, keep);
    struct pool *pool = find(handle);
    if (pool) vgpu_reserve_end(&pool->reserve, 0);
    return result;
}

CUresult vgpu_mem_pool_destroy(enum vgpu_function id, CUmemoryPool handle) {
    struct pool *pool = find(handle);
    CUresult result = REAL_AS(cuMemPoolDestroy, id)(handle);
    if (result != CUDA_SUCCESS || !pool) return result;
    __atomic_store_n(&pool->gone, true, __ATOMIC_RELAXED);
    vgpu_reserve_end(&pool->reserve, 0); /* what still lives in it is charged until it is freed */
    return result;
}

bool vgpu_pools_reclaim(const struct vgpu_device *device) {
    uint64_t before = vgpu_pool_bytes(device);
    for (struct pool *pool = ACQUIRE_LOAD(&pools); pool; pool = pool->next) {
        if (pool->gone || pool->reserve.charge.device != device || !vgpu_charged_bytes(&pool->reserve.charge)) continue;
        REAL(cuMemPoolTrimTo)(pool->handle, 0);
        vgpu_reserve_end(&pool->reserve, 0);
    }
    return vgpu_pool_bytes(device) < before;
}

uint64_t vgpu_pool_bytes(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (struct pool *pool = ACQUIRE_LOAD(&pools); pool; pool = pool->next)
        if (pool->reserve.charge.device == device) sum += vgpu_charged_bytes(&pool->reserve.charge);
    return sum;
}

void vgpu_pools_forget(void) {
    pools = 0;
    memset(&pools_lock, 0, sizeof pools_lock);
    vgpu_ledger_forget(&pooled_addresses);
}
