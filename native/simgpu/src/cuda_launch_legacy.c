/*
 * Launches as before CUDA 4: block shape and parameters are set on the function, one by one, and a launch gives
 * the grid alone. Deprecated, but every libcuda still exports them, and old programs call them.
 */
#include "cuda_api.h"

#include <stdlib.h>
#include <string.h>

/* The function's settings, made when the first one is set; they go with the module. */
static struct simgpu_legacy *settings(CUfunction function) {
    if (function && !function->legacy)
        function->legacy = calloc(1, sizeof *function->legacy);
    return function ? function->legacy : NULL;
}

CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) {
    SIMGPU_ENTER();
    struct simgpu_legacy *legacy = settings(function);
    SIMGPU_NEED(legacy, CUDA_ERROR_INVALID_HANDLE);
    SIMGPU_NEED(x > 0 && y > 0 && z > 0, CUDA_ERROR_INVALID_VALUE);
    legacy->block[0] = (unsigned)x;
    legacy->block[1] = (unsigned)y;
    legacy->block[2] = (unsigned)z;
    return CUDA_SUCCESS;
}

CUresult cuFuncSetSharedSize(CUfunction function, unsigned int bytes) {
    SIMGPU_ENTER();
    (void)bytes;
    return settings(function) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuParamSetSize(CUfunction function, unsigned int bytes) {
    SIMGPU_ENTER();
    struct simgpu_legacy *legacy = settings(function);
    SIMGPU_NEED(legacy, CUDA_ERROR_INVALID_HANDLE);
    SIMGPU_NEED(bytes <= sizeof legacy->parameters, CUDA_ERROR_INVALID_VALUE);
    legacy->size = bytes;
    return CUDA_SUCCESS;
}

CUresult cuParamSetv(CUfunction function, int offset, void *value, unsigned int bytes) {
    SIMGPU_ENTER();
    struct simgpu_legacy *legacy = settings(function);
    SIMGPU_NEED(legacy, CUDA_ERROR_INVALID_HANDLE);
    SIMGPU_NEED(value && offset >= 0 && bytes <= sizeof legacy->parameters, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED((size_t)offset <= sizeof legacy->parameters - bytes, CUDA_ERROR_INVALID_VALUE);
    memcpy(legacy->parameters + offset, value, bytes);
    return CUDA_SUCCESS;
}

CUresult cuParamSeti(CUfunction function, int offset, unsigned int value) {
    return cuParamSetv(function, offset, &value, sizeof value);
}

CUresult cuParamSetf(CUfunction function, int offset, float value) {
    return cuParamSetv(function, offset, &value, sizeof value);
}

static CUresult launch(CUfunction function, int width, int height, CUstream stream) {
    SIMGPU_NEED(function && function->legacy, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(width > 0 && height > 0, CUDA_ERROR_INVALID_VALUE);
    struct simgpu_legacy *legacy = function->legacy;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, legacy->parameters, CU_LAUNCH_PARAM_BUFFER_SIZE, &legacy->size,
                     CU_LAUNCH_PARAM_END};
    struct simgpu_launch wanted = {function,
                                   {(unsigned)width, (unsigned)height, 1},
                                   {legacy->block[0], legacy->block[1], legacy->block[2]},
                                   NULL,
                                   extra};
    return simgpu_launch(&wanted, stream);
}

CUresult cuLaunch(CUfunction function) {
    SIMGPU_ENTER();
    return launch(function, 1, 1, NULL);
}

CUresult cuLaunchGrid(CUfunction function, int width, int height) {
    SIMGPU_ENTER();
    return launch(function, width, height, NULL);
}

CUresult cuLaunchGridAsync(CUfunction function, int width, int height, CUstream stream) {
    SIMGPU_ENTER();
    return launch(function, width, height, stream);
}
