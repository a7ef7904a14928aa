/*
 * Memory of graphs: addresses are fixed when the node is made, bytes stand behind them when it runs.
 *
 * Each card has one reserve for all graphs of the process: what a node frees stays in it, for the next
 * launch, until cuDeviceGraphMemTrim gives it back. What a graph allocated and did not free belongs to
 * the program, which may free it with cuMemFree.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

static struct {
    uint64_t used, used_high, reserved, reserved_high;
} reserves[SIMGPU_MAX_CARDS];
static pthread_mutex_t reserve_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t rounded(uint64_t bytes) {
    return (bytes + SIMGPU_ROUND - 1) & ~(SIMGPU_ROUND - 1);
}

static bool take(int card, uint64_t bytes) {
    pthread_mutex_lock(&reserve_lock);
    uint64_t idle = reserves[card].reserved - reserves[card].used, more = bytes > idle ? bytes - idle : 0;
    bool fits = !more || simgpu_charge(card, more);
    if (fits) {
        reserves[card].reserved += more;
        reserves[card].used += bytes;
        if (reserves[card].used > reserves[card].used_high)
            reserves[card].used_high = reserves[card].used;
        if (reserves[card].reserved > reserves[card].reserved_high)
            reserves[card].reserved_high = reserves[card].reserved;
    }
    pthread_mutex_unlock(&reserve_lock);
    return fits;
}

void simgpu_trim_graph_memory(int card) {
    pthread_mutex_lock(&reserve_lock);
    uint64_t idle = reserves[card].reserved - reserves[card].used;
    reserves[card].reserved -= idle;
    if (idle)
        simgpu_discharge(card, idle);
    pthread_mutex_unlock(&reserve_lock);
}

void simgpu_forget_graph_memory(void) {
    pthread_mutex_init(&reserve_lock, NULL);
    for (int card = 0; card < SIMGPU_MAX_CARDS; card++)
        reserves[card].used = reserves[card].used_high = reserves[card].reserved = reserves[card].reserved_high = 0;
}

/* The block is on its way out: what stood behind it is idle now. */
void simgpu_end_graph_block(struct simgpu_block *block) {
    pthread_mutex_lock(&reserve_lock);
    if (block->backed)
        reserves[block->card].used -= rounded(block->size);
    block->backed = false;
    pthread_mutex_unlock(&reserve_lock);
}

CUresult simgpu_reserve_graph_memory(size_t bytes, CUdeviceptr *address) {
    CUcontext context = simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    struct simgpu_block wanted = {.size = bytes, .kind = SIMGPU_GRAPH, .card = context->card, .context = context};
    wanted.flags = 1; /* how many graphs know the address */
    return simgpu_allocate(&wanted, address);
}

CUresult simgpu_back_graph_memory(CUdeviceptr address) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->kind == SIMGPU_GRAPH && !block->backed, CUDA_ERROR_ILLEGAL_STATE);
    SIMGPU_NEED(take(block->card, rounded(block->size)), CUDA_ERROR_OUT_OF_MEMORY);
    block->backed = true;
    return CUDA_SUCCESS;
}

CUresult simgpu_unback_graph_memory(CUdeviceptr address) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->kind == SIMGPU_GRAPH && block->backed, CUDA_ERROR_INVALID_VALUE);
    simgpu_end_graph_block(block);
    madvise((void *)block->base, block->span, MADV_DONTNEED);
    return CUDA_SUCCESS;
}

void simgpu_keep_graph_memory(CUdeviceptr address) {
    struct simgpu_block *block = simgpu_find_block(address);
    if (block && block->kind == SIMGPU_GRAPH)
        block->flags++;
}

void simgpu_drop_graph_memory(CUdeviceptr address) {
    struct simgpu_block *block = simgpu_find_block(address);
    if (!block || block->kind != SIMGPU_GRAPH || --block->flags || block->backed)
        return;
    simgpu_release_block(simgpu_take_block(address));
}

static bool is_device(CUdevice device) {
    return device >= 0 && device < simgpu_device_count;
}

CUresult cuDeviceGraphMemTrim(CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    simgpu_trim_graph_memory(simgpu_device_cards[device]);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    SIMGPU_NEED(value, CUDA_ERROR_INVALID_VALUE);
    int card = simgpu_device_cards[device];
    switch ((int)attribute) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT: *(cuuint64_t *)value = reserves[card].used; return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH: *(cuuint64_t *)value = reserves[card].used_high; return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT: *(cuuint64_t *)value = reserves[card].reserved; return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH: *(cuuint64_t *)value = reserves[card].reserved_high; return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    SIMGPU_NEED(value, CUDA_ERROR_INVALID_VALUE);
    int card = simgpu_device_cards[device];
    switch ((int)attribute) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH: reserves[card].used_high = reserves[card].used; return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH: reserves[card].reserved_high = reserves[card].reserved; return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
}
