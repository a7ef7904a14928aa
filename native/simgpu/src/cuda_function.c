/*
 * Questions about functions: attributes, parameters, occupancy.
 */
#include "cuda_module.h"

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    SIMGPU_ENTER();
    SIMGPU_NEED(value && function && attribute < CU_FUNC_ATTRIBUTE_MAX, CUDA_ERROR_INVALID_VALUE);
    switch ((int)attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = 80; break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = 49152; break;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = -1; break;
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    SIMGPU_ENTER();
    (void)value; /* sizes of shared memory have no effect on the time line */
    SIMGPU_NEED(function && attribute < CU_FUNC_ATTRIBUTE_MAX, CUDA_ERROR_INVALID_VALUE);
    return CUDA_SUCCESS;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
    (void)device;
    return cuFuncGetAttribute(value, attribute, (CUfunction)kernel);
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
    (void)device;
    return cuFuncSetAttribute((CUfunction)kernel, attribute, value);
}

CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache config) {
    SIMGPU_ENTER();
    (void)config;
    return function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncGetModule(CUmodule *module, CUfunction function) {
    SIMGPU_ENTER();
    SIMGPU_NEED(module && function, CUDA_ERROR_INVALID_VALUE);
    *module = function->module;
    return CUDA_SUCCESS;
}

CUresult cuFuncGetName(const char **name, CUfunction function) {
    SIMGPU_ENTER();
    SIMGPU_NEED(name && function, CUDA_ERROR_INVALID_VALUE);
    *name = function->name;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char **name, CUkernel kernel) {
    return cuFuncGetName(name, (CUfunction)kernel);
}

CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *size) {
    SIMGPU_ENTER();
    SIMGPU_NEED(function && index < function->parameter_count && offset, CUDA_ERROR_INVALID_VALUE);
    *offset = function->parameter_offset[index];
    if (size)
        *size = function->parameter_size[index];
    return CUDA_SUCCESS;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *size) {
    return cuFuncGetParamInfo((CUfunction)kernel, index, offset, size);
}

CUresult cuFuncGetParamCount(CUfunction function, size_t *count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(function && count, CUDA_ERROR_INVALID_VALUE);
    *count = function->parameter_count;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetParamCount(CUkernel kernel, size_t *count) {
    return cuFuncGetParamCount((CUfunction)kernel, count);
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function) {
    SIMGPU_ENTER();
    SIMGPU_NEED(state && function, CUDA_ERROR_INVALID_VALUE);
    *state = CU_FUNCTION_LOADING_STATE_LOADED;
    return CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction function) {
    SIMGPU_ENTER();
    return function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int size, size_t shared,
                                                              unsigned int flags) {
    SIMGPU_ENTER();
    (void)flags;
    SIMGPU_NEED(blocks && function && size > 0 && size <= 1024, CUDA_ERROR_INVALID_VALUE);
    int by_threads = 2048 / size, by_shared = shared ? (int)(166912 / (shared + 1024)) : 32;
    *blocks = by_threads < 32 ? by_threads : 32;
    *blocks = by_shared < *blocks ? by_shared : *blocks;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int size, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, size, shared, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction function,
                                                   CUoccupancyB2DSize shared_of, size_t shared, int limit,
                                                   unsigned int flags) {
    SIMGPU_ENTER();
    (void)shared_of, (void)shared, (void)flags;
    SIMGPU_NEED(grid && block && function && simgpu_current(), CUDA_ERROR_INVALID_VALUE);
    *block = limit > 0 && limit < 1024 ? limit : 1024;
    *grid = (int)simgpu->cards[simgpu_current()->card].facts.multiprocessors * (2048 / *block);
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, CUoccupancyB2DSize shared_of,
                                          size_t shared, int limit) {
    return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared_of, shared, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction function, int blocks, int size) {
    SIMGPU_ENTER();
    SIMGPU_NEED(bytes && function && blocks > 0 && size > 0, CUDA_ERROR_INVALID_VALUE);
    *bytes = (size_t)(166912 / blocks);
    return CUDA_SUCCESS;
}
