/*
 * Stream-ordered allocation: pools hold what they reserved, up to their release threshold.
 *
 * The card is charged for what a pool has reserved, so freed memory of a pool with a threshold stays
 * on the card's account until it is reused, trimmed, or its pool destroyed.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdlib.h>

struct CUmemPoolHandle_st {
    int card;
    uint64_t threshold, used, reserved, used_high, reserved_high;
    int reuse[3];
    unsigned live;
    bool doomed; /* destroyed while allocations live: goes with the last of them */
};

static struct CUmemPoolHandle_st defaults[SIMGPU_MAX_CARDS];
static CUmemoryPool chosen[SIMGPU_MAX_CARDS]; /* by device; NULL: the default one */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

static CUmemoryPool default_pool(CUdevice device) {
    CUmemoryPool pool = &defaults[device];
    pool->card = simgpu_device_cards[device];
    return pool;
}

void simgpu_forget_pools(void) {
    pthread_mutex_init(&pool_lock, NULL);
    for (int device = 0; device < SIMGPU_MAX_CARDS; device++) {
        defaults[device] = (struct CUmemPoolHandle_st){0};
        chosen[device] = NULL;
    }
}

static uint64_t rounded(uint64_t bytes) {
    return (bytes + SIMGPU_ROUND - 1) & ~(SIMGPU_ROUND - 1);
}

/* A pool takes memory from the card in chunks. */
static uint64_t in_chunks(CUmemoryPool pool, uint64_t bytes) {
    uint64_t chunk = simgpu->cards[pool->card].facts.pool_chunk;
    return chunk ? (bytes + chunk - 1) / chunk * chunk : bytes;
}

/* Gives back what is reserved beyond `keep` and not in use. */
static void trim(CUmemoryPool pool, uint64_t keep) {
    uint64_t floor = in_chunks(pool, keep > pool->used ? keep : pool->used);
    if (pool->reserved <= floor)
        return;
    simgpu_discharge(pool->card, pool->reserved - floor);
    pool->reserved = floor;
}

static CUresult reserve(CUmemoryPool pool, uint64_t bytes) {
    uint64_t idle = pool->reserved - pool->used, more = in_chunks(pool, bytes > idle ? bytes - idle : 0);
    if (more && !simgpu_charge(pool->card, more))
        return CUDA_ERROR_OUT_OF_MEMORY;
    pool->reserved += more;
    pool->used += bytes;
    pool->live++;
    if (pool->used > pool->used_high)
        pool->used_high = pool->used;
    if (pool->reserved > pool->reserved_high)
        pool->reserved_high = pool->reserved;
    return CUDA_SUCCESS;
}

void simgpu_pool_return(struct simgpu_block *block) {
    CUmemoryPool pool = block->owner;
    pthread_mutex_lock(&pool_lock);
    pool->used -= rounded(block->size);
    pool->live--;
    trim(pool, pool->doomed ? 0 : pool->threshold);
    bool last = pool->doomed && pool->live == 0;
    pthread_mutex_unlock(&pool_lock);
    if (last)
        free(pool);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream handle) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(address && bytes && pool, CUDA_ERROR_INVALID_VALUE);
    if (stream->capture)
        return simgpu_capture_allocation(stream, bytes, address);
    pthread_mutex_lock(&pool_lock);
    CUresult result = reserve(pool, rounded(bytes));
    pthread_mutex_unlock(&pool_lock);
    SIMGPU_NEED(result == CUDA_SUCCESS, result);
    struct simgpu_block wanted = {.size = bytes, .kind = SIMGPU_POOLED, .card = pool->card, .owner = pool};
    wanted.context = stream->context;
    result = simgpu_allocate(&wanted, address);
    if (result != CUDA_SUCCESS)
        simgpu_pool_return(&wanted);
    return result;
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream handle) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    int device = stream->context->device;
    CUmemoryPool pool = chosen[device] ? chosen[device] : default_pool(device);
    return cuMemAllocFromPoolAsync(address, bytes, pool, handle);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    if (stream->capture)
        return simgpu_capture_free(stream, address);
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->base == address, CUDA_ERROR_INVALID_VALUE);
    if (block->kind == SIMGPU_GRAPH)
        return simgpu_unback_graph_memory(address);
    SIMGPU_NEED(block->kind == SIMGPU_POOLED || block->kind == SIMGPU_DEVICE, CUDA_ERROR_INVALID_VALUE);
    return simgpu_release_block(simgpu_take_block(address));
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(pool, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(device >= 0 && device < simgpu_device_count, CUDA_ERROR_INVALID_DEVICE);
    *pool = default_pool(device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) {
    CUresult result = cuDeviceGetDefaultMemPool(pool, device);
    if (result == CUDA_SUCCESS && chosen[device])
        *pool = chosen[device];
    return result;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
    SIMGPU_ENTER();
    SIMGPU_NEED(device >= 0 && device < simgpu_device_count, CUDA_ERROR_INVALID_DEVICE);
    SIMGPU_NEED(pool && pool->card == simgpu_device_cards[device], CUDA_ERROR_INVALID_VALUE);
    chosen[device] = pool;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *out, const CUmemPoolProps *properties) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && properties, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE, CUDA_ERROR_NOT_SUPPORTED);
    SIMGPU_NEED(properties->handleTypes == CU_MEM_HANDLE_TYPE_NONE, CUDA_ERROR_NOT_SUPPORTED);
    int device = properties->location.id;
    SIMGPU_NEED(device >= 0 && device < simgpu_device_count, CUDA_ERROR_INVALID_DEVICE);
    CUmemoryPool pool = calloc(1, sizeof *pool);
    SIMGPU_NEED(pool, CUDA_ERROR_OUT_OF_MEMORY);
    pool->card = simgpu_device_cards[device];
    *out = pool;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
    SIMGPU_ENTER();
    SIMGPU_NEED(pool, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(pool < defaults || pool >= defaults + SIMGPU_MAX_CARDS, CUDA_ERROR_INVALID_VALUE);
    pthread_mutex_lock(&pool_lock);
    for (int device = 0; device < SIMGPU_MAX_CARDS; device++)
        if (chosen[device] == pool)
            chosen[device] = NULL;
    trim(pool, 0);
    pool->doomed = true;
    bool unused = pool->live == 0;
    pthread_mutex_unlock(&pool_lock);
    if (unused)
        free(pool);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) {
    SIMGPU_ENTER();
    SIMGPU_NEED(pool, CUDA_ERROR_INVALID_VALUE);
    pthread_mutex_lock(&pool_lock);
    trim(pool, keep);
    pthread_mutex_unlock(&pool_lock);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    SIMGPU_ENTER();
    SIMGPU_NEED(pool && value, CUDA_ERROR_INVALID_VALUE);
    switch ((int)attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES] = *(int *)value;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: pool->threshold = *(cuuint64_t *)value; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: pool->reserved_high = pool->reserved; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: pool->used_high = pool->used; return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    SIMGPU_ENTER();
    SIMGPU_NEED(pool && value, CUDA_ERROR_INVALID_VALUE);
    switch ((int)attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        *(int *)value = pool->reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES];
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: *(cuuint64_t *)value = pool->threshold; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: *(cuuint64_t *)value = pool->reserved; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: *(cuuint64_t *)value = pool->reserved_high; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: *(cuuint64_t *)value = pool->used; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: *(cuuint64_t *)value = pool->used_high; return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *list, size_t count) {
    SIMGPU_ENTER();
    return pool && (list || !count) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool pool, CUmemLocation *location) {
    SIMGPU_ENTER();
    SIMGPU_NEED(flags && pool && location, CUDA_ERROR_INVALID_VALUE);
    *flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return CUDA_SUCCESS;
}
