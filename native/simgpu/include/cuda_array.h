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
};

struct CUmipmappedArray_st {
    unsigned count;
    struct CUarray_st levels[];
};

#endif
