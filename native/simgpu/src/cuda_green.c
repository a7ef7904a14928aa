/*
 * Green contexts: a part of a card's multiprocessors under a handle of its own. The part itself has no
 * effect here; that such a context keeps the primary context alive has.
 */
#include "cuda_api.h"

#include <stdlib.h>

struct CUgreenCtx_st {
    CUcontext primary;
    CUdevice device;
};

struct CUdevResourceDesc_st {
    unsigned multiprocessors;
};

CUresult cuDeviceGetDevResource(CUdevice device, CUdevResource *resource, CUdevResourceType type) {
    SIMGPU_ENTER();
    SIMGPU_NEED(resource, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(device >= 0 && device < simgpu_device_count, CUDA_ERROR_INVALID_DEVICE);
    SIMGPU_NEED(type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
    *resource = (CUdevResource){.type = type};
    resource->sm.smCount = (unsigned)simgpu->cards[simgpu_device_cards[device]].facts.multiprocessors;
    return CUDA_SUCCESS;
}

CUresult cuDevResourceGenerateDesc(CUdevResourceDesc *out, CUdevResource *resources, unsigned int count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && resources && count, CUDA_ERROR_INVALID_VALUE);
    CUdevResourceDesc made = calloc(1, sizeof *made);
    SIMGPU_NEED(made, CUDA_ERROR_OUT_OF_MEMORY);
    for (unsigned at = 0; at < count; at++)
        made->multiprocessors += resources[at].sm.smCount;
    *out = made;
    return CUDA_SUCCESS;
}

CUresult cuGreenCtxCreate(CUgreenCtx *out, CUdevResourceDesc part, CUdevice device, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && part && flags == CU_GREEN_CTX_DEFAULT_STREAM, CUDA_ERROR_INVALID_VALUE);
    CUgreenCtx made = calloc(1, sizeof *made);
    SIMGPU_NEED(made, CUDA_ERROR_OUT_OF_MEMORY);
    CUresult result = cuDevicePrimaryCtxRetain(&made->primary, device);
    made->device = device;
    if (result == CUDA_SUCCESS)
        *out = made;
    else
        free(made);
    return result;
}

CUresult cuGreenCtxDestroy(CUgreenCtx context) {
    SIMGPU_ENTER();
    SIMGPU_NEED(context, CUDA_ERROR_INVALID_CONTEXT);
    CUresult result = cuDevicePrimaryCtxRelease_v2(context->device);
    free(context);
    return result;
}

CUresult cuCtxFromGreenCtx(CUcontext *out, CUgreenCtx context) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && context, CUDA_ERROR_INVALID_CONTEXT);
    *out = context->primary;
    return CUDA_SUCCESS;
}
