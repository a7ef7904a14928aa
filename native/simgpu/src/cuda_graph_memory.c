/*
 * Memory of graphs: addresses are fixed when the node is made, bytes are charged when it runs.
 *
 * What a graph allocated and did not free belongs to the program, which may free it with cuMemFree.
 */
#include "cuda_api.h"

#include <stdlib.h>
#include <sys/mman.h>

CUresult simgpu_reserve_graph_memory(size_t bytes, CUdeviceptr *address) {
    CUcontext context = simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    struct simgpu_block wanted = {.size = bytes, .kind = SIMGPU_GRAPH, .card = context->card, .context = context};
    wanted.flags = 1; /* how many graphs know the address */
    return simgpu_allocate(&wanted, address);
}

CUresult simgpu_back_graph_memory(CUdeviceptr address) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->kind == SIMGPU_GRAPH && !block->charged, CUDA_ERROR_ILLEGAL_STATE);
    uint64_t bytes = (block->size + SIMGPU_ROUND - 1) & ~(SIMGPU_ROUND - 1);
    SIMGPU_NEED(simgpu_charge(block->card, bytes), CUDA_ERROR_OUT_OF_MEMORY);
    block->charged = bytes;
    return CUDA_SUCCESS;
}

CUresult simgpu_unback_graph_memory(CUdeviceptr address) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->kind == SIMGPU_GRAPH && block->charged, CUDA_ERROR_INVALID_VALUE);
    simgpu_discharge(block->card, block->charged);
    block->charged = 0;
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
    if (!block || block->kind != SIMGPU_GRAPH || --block->flags || block->charged)
        return;
    simgpu_release_block(simgpu_take_block(address));
}
