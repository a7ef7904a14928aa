/*
 * Managed memory: it is nowhere until it is used, and then where the program wants it.
 *
 * It comes to the card with the next kernel launch, or when it is prefetched there, as far as the card has
 * room; it stays on the host when its preferred location is the host. Nothing is ever evicted.
 */
#include "cuda_api.h"

static _Atomic unsigned unsettled; /* blocks that no launch has seen yet */

static uint64_t rounded(uint64_t bytes) {
    return (bytes + SIMGPU_ROUND - 1) & ~(SIMGPU_ROUND - 1);
}

void simgpu_forget_managed(void) {
    unsettled = 0;
}

CUresult simgpu_new_managed(CUdeviceptr *address, size_t bytes, unsigned flags) {
    CUcontext context = simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(bytes < 1ull << 46, CUDA_ERROR_OUT_OF_MEMORY);
    struct simgpu_block wanted = {.size = bytes, .kind = SIMGPU_MANAGED, .card = context->card, .context = context};
    wanted.flags = flags;
    CUresult result = simgpu_allocate(&wanted, address);
    if (result == CUDA_SUCCESS)
        unsettled++;
    return result;
}

static void leave_card(struct simgpu_block *block) {
    if (block->charged)
        simgpu_discharge(block->card, block->charged);
    block->charged = 0;
}

static void come_to_card(struct simgpu_block *block) {
    uint64_t bytes = rounded(block->size);
    if (!block->charged && simgpu_charge(block->card, bytes))
        block->charged = bytes;
}

static void settle(struct simgpu_block *block) {
    if (block->kind != SIMGPU_MANAGED || block->backed)
        return;
    block->backed = true;
    unsettled--;
    if (!block->on_host)
        come_to_card(block);
}

void simgpu_settle_managed(void) {
    if (__builtin_expect(atomic_load_explicit(&unsettled, memory_order_relaxed) != 0, 0))
        simgpu_walk_blocks(settle);
}

void simgpu_end_managed_block(struct simgpu_block *block) {
    if (!block->backed)
        unsettled--;
}

static CUresult advise(CUdeviceptr address, CUmem_advise advice, bool host) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->kind == SIMGPU_MANAGED, CUDA_ERROR_INVALID_VALUE);
    if (advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION)
        block->on_host = host;
    if (advice == CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION)
        block->on_host = false;
    if (block->on_host)
        leave_card(block);
    return CUDA_SUCCESS;
}

static bool is_host(CUmemLocation location) {
    return location.type != CU_MEM_LOCATION_TYPE_DEVICE;
}

CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation location) {
    SIMGPU_ENTER();
    (void)bytes; /* a block is somewhere as a whole */
    return advise(address, advice, is_host(location));
}

CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
    SIMGPU_ENTER();
    (void)bytes;
    return advise(address, advice, device == CU_DEVICE_CPU);
}

static CUresult prefetch(CUdeviceptr address, bool host) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->kind == SIMGPU_MANAGED, CUDA_ERROR_INVALID_VALUE);
    settle(block);
    if (host)
        leave_card(block);
    else
        come_to_card(block);
    return CUDA_SUCCESS;
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned int flags,
                               CUstream stream) {
    SIMGPU_ENTER();
    (void)bytes, (void)flags, (void)stream;
    return prefetch(address, is_host(location));
}

CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream) {
    SIMGPU_ENTER();
    (void)bytes, (void)stream;
    return prefetch(address, device == CU_DEVICE_CPU);
}
