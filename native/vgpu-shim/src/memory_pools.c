/* Stream-ordered memory: a pool is charged what it holds, which is at least what lives in it and as much as
 * its release threshold lets it keep. */
#include <stdlib.h>
#include <string.h>

#include "holdings.h"
#include "pools.h"

/* One pool of the driver. Kept for as long as the process lives: pools are few. */
struct pool {
    CUmemoryPool handle;
    struct vgpu_charge charge;
    struct vgpu_lock lock; /* live and charge */
    uint64_t live;
    struct pool *next;
};

static struct pool *pools;
static struct vgpu_lock pools_lock;
static struct vgpu_ledger pooled_addresses;

static struct pool *pool_of(CUmemoryPool handle, struct vgpu_device *device) {
    vgpu_lock(&pools_lock);
    struct pool *pool = pools;
    while (pool && pool->handle != handle) pool = pool->next;
    if (!pool && device && (pool = calloc(1, sizeof *pool))) {
        pool->handle = handle;
        pool->charge.device = device;
        pool->charge.kind = VGPU_KIND_BUFFER;
        pool->next = pools;
        pools = pool;
    }
    vgpu_unlock(&pools_lock);
    return pool;
}

static uint64_t held_by_driver(CUmemoryPool handle) {
    cuuint64_t held = 0;
    CUresult result = REAL(cuMemPoolGetAttribute)(handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &held);
    return result == CUDA_SUCCESS ? held : 0;
}

/* Makes the charge the larger of what lives in the pool and what the driver says it holds; false: over. */
static bool adjust(struct pool *pool, uint64_t held) {
    uint64_t due = held > pool->live ? held : pool->live, paid = vgpu_charged_bytes(&pool->charge);
    if (due <= paid) {
        vgpu_charge_shrink(&pool->charge, paid - due);
        return true;
    }
    return vgpu_charge_grow(&pool->charge, due - paid);
}

/* Pays for `size` more bytes before the driver is asked; what the pool holds unused is paid already. */
static bool reserve(struct pool *pool, uint64_t size) {
    uint64_t held = held_by_driver(pool->handle);
    vgpu_lock(&pool->lock);
    uint64_t paid, live = pool->live;
    pool->live += size;
    bool fits = !__builtin_add_overflow(live, size, &paid) && adjust(pool, held);
    if (!fits) pool->live = live;
    vgpu_unlock(&pool->lock);
    return fits;
}

/* After the driver's answer: `less` bytes no longer live in the pool. */
static bool follow(struct pool *pool, uint64_t less) {
    uint64_t held = held_by_driver(pool->handle);
    vgpu_lock(&pool->lock);
    pool->live -= less < pool->live ? less : pool->live;
    bool fits = adjust(pool, held);
    vgpu_unlock(&pool->lock);
    return fits;
}

static void enter(struct pool *pool, CUdeviceptr address, uint64_t size) {
    struct vgpu_holding holding;
    memset(&holding, 0, sizeof holding);
    holding.record = pool;
    holding.size = size;
    vgpu_ledger_put(&pooled_addresses, address, &holding);
}

static struct pool *current_pool(void) {
    CUdevice ordinal;
    CUmemoryPool handle;
    if (REAL(cuCtxGetDevice)(&ordinal) != CUDA_SUCCESS) return 0;
    struct vgpu_device *device = vgpu_card_of_ordinal(ordinal);
    if (!device || REAL(cuDeviceGetMemPool)(&handle, ordinal) != CUDA_SUCCESS) return 0;
    return pool_of(handle, device);
}

static CUresult settle(struct pool *pool, CUresult result, CUdeviceptr address, uint64_t size) {
    if (result == CUDA_SUCCESS) enter(pool, address, size);
    if (!follow(pool, result == CUDA_SUCCESS ? 0 : size))
        vgpu_log(VGPU_LOG_WARNING, "a pool holds more than its share has left");
    return result;
}

CUresult vgpu_mem_alloc_async(enum vgpu_function id, CUdeviceptr *address, size_t size, CUstream stream) {
    struct pool *pool = address ? current_pool() : 0;
    if (!pool) return REAL_AS(cuMemAllocAsync, id)(address, size, stream);
    if (!reserve(pool, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuMemAllocAsync, id)(address, size, stream);
    return settle(pool, result, *address, size);
}

CUresult vgpu_mem_alloc_from_pool_async(enum vgpu_function id, CUdeviceptr *address, size_t size, CUmemoryPool handle,
                                        CUstream stream) {
    struct pool *pool = address ? pool_of(handle, vgpu_card_of_current_context()) : 0;
    if (!pool) return REAL_AS(cuMemAllocFromPoolAsync, id)(address, size, handle, stream);
    if (!reserve(pool, size)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuMemAllocFromPoolAsync, id)(address, size, handle, stream);
    return settle(pool, result, *address, size);
}

CUresult vgpu_free_pooled(CUdeviceptr address, CUresult (*free)(void *), void *argument, bool *pooled) {
    struct vgpu_holding holding;
    *pooled = vgpu_ledger_take(&pooled_addresses, address, &holding);
    CUresult result = *pooled ? free(argument) : CUDA_SUCCESS;
    if (*pooled && result == CUDA_SUCCESS) follow(holding.record, holding.size);
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

CUresult vgpu_mem_free_async(enum vgpu_function id, CUdeviceptr address, CUstream stream) {
    struct stream_free wanted = {id, address, stream};
    bool pooled;
    CUresult result = vgpu_free_pooled(address, free_on_stream, &wanted, &pooled);
    return pooled ? result : vgpu_release(&vgpu_linear, address, free_on_stream, &wanted);
}

CUresult vgpu_mem_pool_trim_to(enum vgpu_function id, CUmemoryPool handle, size_t keep) {
    CUresult result = REAL_AS(cuMemPoolTrimTo, id)(handle, keep);
    struct pool *pool = pool_of(handle, 0);
    if (pool) follow(pool, 0);
    return result;
}

CUresult vgpu_mem_pool_destroy(enum vgpu_function id, CUmemoryPool handle) {
    CUresult result = REAL_AS(cuMemPoolDestroy, id)(handle);
    struct pool *pool = pool_of(handle, 0);
    if (result != CUDA_SUCCESS || !pool) return result;
    vgpu_lock(&pool->lock);
    pool->live = 0;
    vgpu_charge_end(&pool->charge);
    vgpu_unlock(&pool->lock);
    return result;
}

uint64_t vgpu_pool_bytes(const struct vgpu_device *device) {
    uint64_t sum = 0;
    vgpu_lock(&pools_lock);
    for (struct pool *pool = pools; pool; pool = pool->next)
        if (pool->charge.device == device) sum += vgpu_charged_bytes(&pool->charge);
    vgpu_unlock(&pools_lock);
    return sum;
}

void vgpu_pools_forget(void) {
    pools = 0;
    memset(&pools_lock, 0, sizeof pools_lock);
    vgpu_ledger_forget(&pooled_addresses);
}
