/*
 * Memory that one process offers to another: its pages move into the state file, which both map.
 *
 * Works between containers, since the state file is the one thing that they share. The memory stays
 * on the account of the process that allocated it.
 */
#include "cuda_api.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HANDLE_MAGIC 0x5349504355504753ull
#define PAGE 4096ull

struct handle {
    uint64_t magic, offset, size, span, card;
};

/* Copies the pages that were ever touched; the others are zero on both sides. */
static bool copy_touched(struct simgpu_block *block, char *to) {
    uint64_t pages = block->span / PAGE;
    unsigned char *resident = malloc(pages);
    if (!resident || mincore((void *)block->base, block->span, resident) != 0) {
        free(resident);
        return false;
    }
    for (uint64_t page = 0; page < pages; page++)
        if (resident[page] & 1)
            memcpy(to + page * PAGE, (char *)block->base + page * PAGE, PAGE);
    free(resident);
    return true;
}

static CUresult move_to_state(struct simgpu_block *block) {
    uint64_t offset;
    char *copy = simgpu_share(block->span, NULL, &offset);
    SIMGPU_NEED(copy, CUDA_ERROR_OUT_OF_MEMORY);
    bool moved = copy_touched(block, copy) &&
                 mremap(copy, block->span, block->span, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)block->base) != MAP_FAILED;
    SIMGPU_NEED(moved, CUDA_ERROR_OPERATING_SYSTEM);
    block->shared_offset = offset;
    return CUDA_SUCCESS;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *out, CUdeviceptr address) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(out && block && block->kind == SIMGPU_DEVICE, CUDA_ERROR_INVALID_VALUE);
    CUresult result = block->shared_offset ? CUDA_SUCCESS : move_to_state(block);
    SIMGPU_NEED(result == CUDA_SUCCESS, result);
    struct handle handle = {HANDLE_MAGIC, block->shared_offset, block->size, block->span, (uint64_t)block->card};
    memset(out, 0, sizeof *out);
    memcpy(out, &handle, sizeof handle);
    return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle given, unsigned int flags) {
    SIMGPU_ENTER();
    struct handle handle;
    memcpy(&handle, &given, sizeof handle);
    SIMGPU_NEED(address && flags == CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(handle.magic == HANDLE_MAGIC && handle.card < simgpu->card_count, CUDA_ERROR_INVALID_HANDLE);
    SIMGPU_NEED(simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    void *memory = simgpu_map_shared(handle.offset, handle.span);
    SIMGPU_NEED(memory, CUDA_ERROR_MAP_FAILED);
    struct simgpu_block *block = simgpu_new_block();
    SIMGPU_NEED(block, CUDA_ERROR_OUT_OF_MEMORY);
    block->base = (uint64_t)memory, block->size = handle.size, block->span = handle.span;
    block->kind = SIMGPU_IPC, block->card = (int)handle.card, block->context = simgpu_current();
    simgpu_adopt_block(block);
    *address = block->base;
    return CUDA_SUCCESS;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->base == address && block->kind == SIMGPU_IPC, CUDA_ERROR_INVALID_VALUE);
    return simgpu_release_block(simgpu_take_block(address));
}
