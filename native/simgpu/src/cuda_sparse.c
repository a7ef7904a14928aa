/*
 * Sparse arrays: an array without memory of its own, into which parts of physical allocations are mapped.
 *
 * A mapping keeps its memory alive after the handle is released, until it is unmapped, replaced, or the
 * array is destroyed. Mipmapped sparse arrays are not simulated.
 */
#include "cuda_array.h"

#include <stdlib.h>
#include <string.h>

static bool same_place(const struct simgpu_tile *tile, const unsigned *place) {
    return memcmp(tile->place, place, sizeof tile->place) == 0;
}

/* Those at `place`, or all when it is NULL. */
void simgpu_unmap_tiles(CUarray array, const unsigned *place) {
    for (struct simgpu_tile **at = &array->tiles; *at;) {
        struct simgpu_tile *tile = *at;
        if (place && !same_place(tile, place)) {
            at = &tile->next;
            continue;
        }
        *at = tile->next;
        simgpu_put_physical(tile->memory);
        free(tile);
    }
}

static CUresult map_tile(CUarray array, const unsigned *place, struct physical *memory) {
    struct simgpu_tile *tile = calloc(1, sizeof *tile);
    SIMGPU_NEED(tile, CUDA_ERROR_OUT_OF_MEMORY);
    memcpy(tile->place, place, sizeof tile->place);
    tile->memory = memory;
    simgpu_hold_physical(memory);
    tile->next = array->tiles;
    array->tiles = tile;
    return CUDA_SUCCESS;
}

static CUresult change(const CUarrayMapInfo *info) {
    SIMGPU_NEED(info->resourceType == CU_RESOURCE_TYPE_ARRAY, CUDA_ERROR_NOT_SUPPORTED);
    SIMGPU_NEED(info->subresourceType == CU_ARRAY_SPARSE_SUBRESOURCE_TYPE_SPARSE_LEVEL, CUDA_ERROR_NOT_SUPPORTED);
    CUarray array = info->resource.array;
    SIMGPU_NEED(array && simgpu_is_sparse(array), CUDA_ERROR_INVALID_VALUE);
    unsigned place[8];
    memcpy(place, &info->subresource.sparseLevel, sizeof place);
    simgpu_unmap_tiles(array, place);
    if (info->memOperationType == CU_MEM_OPERATION_TYPE_UNMAP)
        return CUDA_SUCCESS;
    SIMGPU_NEED(info->memHandle.memHandle, CUDA_ERROR_INVALID_VALUE);
    return map_tile(array, place, (struct physical *)info->memHandle.memHandle);
}

CUresult cuMemMapArrayAsync(CUarrayMapInfo *list, unsigned int count, CUstream stream) {
    SIMGPU_ENTER();
    SIMGPU_NEED(list && count, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(simgpu_stream(stream), CUDA_ERROR_INVALID_CONTEXT);
    CUresult result = CUDA_SUCCESS;
    for (unsigned at = 0; at < count && result == CUDA_SUCCESS; at++)
        result = change(&list[at]);
    return result;
}
