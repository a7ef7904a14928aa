/*
 * External memory: what a graphics interface made on the card and this process imports. There is no such
 * interface here, so the import itself makes the memory: as if the program had just made it there.
 */
#include "cuda_api.h"

#include <stdlib.h>

struct CUextMemory_st {
    int card;
    CUdeviceptr memory;
    uint64_t size;
};

CUresult cuImportExternalMemory(CUexternalMemory *out, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *wanted) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && wanted && wanted->size, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(wanted->type == CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD, CUDA_ERROR_NOT_SUPPORTED);
    CUexternalMemory made = calloc(1, sizeof *made);
    SIMGPU_NEED(made, CUDA_ERROR_OUT_OF_MEMORY);
    made->size = wanted->size;
    CUresult result = cuMemAlloc_v2(&made->memory, wanted->size);
    if (result == CUDA_SUCCESS)
        *out = made;
    else
        free(made);
    return result;
}

CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *out, CUexternalMemory memory,
                                         const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *wanted) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && memory && wanted && wanted->offset + wanted->size <= memory->size, CUDA_ERROR_INVALID_VALUE);
    *out = memory->memory + wanted->offset;
    return CUDA_SUCCESS;
}

CUresult cuDestroyExternalMemory(CUexternalMemory memory) {
    SIMGPU_ENTER();
    SIMGPU_NEED(memory, CUDA_ERROR_INVALID_HANDLE);
    CUresult result = cuMemFree_v2(memory->memory);
    free(memory);
    return result;
}
