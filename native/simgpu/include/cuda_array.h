/*
 * Behind CUarray: a described, dense box of device memory.
 */
#ifndef SIMGPU_CUDA_ARRAY_H
#define SIMGPU_CUDA_ARRAY_H

#include "cuda_api.h"

struct CUarray_st {
    CUDA_ARRAY3D_DESCRIPTOR shape;
    CUdeviceptr memory;
    size_t element; /* bytes */
    bool is_level;  /* belongs to a mipmapped array */
    struct simgpu_tile *tiles; /* sparse: what is mapped */
};

struct CUmipmappedArray_st {
    unsigned count;
    struct CUarray_st levels[];
};

/* Memory mapped into a part of a sparse array. */
struct simgpu_tile {
    struct simgpu_tile *next;
    unsigned place[8]; /* level, layer, offsets, extents */
    struct physical *memory;
};

static inline bool simgpu_is_sparse(CUarray array) {
    return array->shape.Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING);
}
void simgpu_unmap_tiles(CUarray array, const unsigned *place);

#endif
