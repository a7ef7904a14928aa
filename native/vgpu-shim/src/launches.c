/* The ways to put work on a card. */
#include "compute.h"

static uint64_t shape_of(unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz) {
    uint64_t grid = (uint64_t)x * 0x9e3779b1u + (uint64_t)y * 0x85ebca77u + z;
    return grid << 20 ^ ((uint64_t)bx << 10) ^ ((uint64_t)by << 5) ^ bz;
}

CUresult vgpu_launch_kernel(enum vgpu_function id, CUfunction function, unsigned x, unsigned y, unsigned z, unsigned bx,
                            unsigned by, unsigned bz, unsigned shared, CUstream stream, void **parameters, void **extra) {
    struct vgpu_launch launch;
    bool per_thread = id == VGPU_cuLaunchKernel_ptsz;
    if (!vgpu_compute_begin(&launch, function, shape_of(x, y, z, bx, by, bz), stream, per_thread)) return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuLaunchKernel, id)(function, x, y, z, bx, by, bz, shared, stream, parameters, extra);
    vgpu_compute_end(&launch, result, stream, per_thread);
    return result;
}

CUresult vgpu_launch_kernel_ex(enum vgpu_function id, const CUlaunchConfig *config, CUfunction function,
                               void **parameters, void **extra) {
    struct vgpu_launch launch;
    bool per_thread = id == VGPU_cuLaunchKernelEx_ptsz;
    if (!config) return REAL_AS(cuLaunchKernelEx, id)(config, function, parameters, extra);
    uint64_t shape = shape_of(config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
                              config->blockDimY, config->blockDimZ);
    if (!vgpu_compute_begin(&launch, function, shape, config->hStream, per_thread)) return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuLaunchKernelEx, id)(config, function, parameters, extra);
    vgpu_compute_end(&launch, result, config->hStream, per_thread);
    return result;
}

CUresult vgpu_launch_cooperative_kernel(enum vgpu_function id, CUfunction function, unsigned x, unsigned y, unsigned z,
                                        unsigned bx, unsigned by, unsigned bz, unsigned shared, CUstream stream,
                                        void **parameters) {
    struct vgpu_launch launch;
    bool per_thread = id == VGPU_cuLaunchCooperativeKernel_ptsz;
    if (!vgpu_compute_begin(&launch, function, shape_of(x, y, z, bx, by, bz), stream, per_thread)) return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuLaunchCooperativeKernel, id)(function, x, y, z, bx, by, bz, shared, stream, parameters);
    vgpu_compute_end(&launch, result, stream, per_thread);
    return result;
}

/* Paid by the current context's card for all: each launch names a stream of a card, which costs a question more. */
CUresult vgpu_launch_multi_device(enum vgpu_function id, CUDA_LAUNCH_PARAMS *launches, unsigned count, unsigned flags) {
    struct vgpu_launch launch;
    uint64_t shape = launches && count ? shape_of(launches->gridDimX, launches->gridDimY, launches->gridDimZ,
                                                  launches->blockDimX, launches->blockDimY, launches->blockDimZ) : 0;
    CUstream stream = launches && count ? launches->hStream : 0;
    const void *work = launches && count ? launches->function : 0;
    if (!vgpu_compute_begin(&launch, work, shape, stream, false)) return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuLaunchCooperativeKernelMultiDevice, id)(launches, count, flags);
    vgpu_compute_end(&launch, result, stream, false);
    return result;
}

CUresult vgpu_graph_launch(enum vgpu_function id, CUgraphExec graph, CUstream stream) {
    struct vgpu_launch launch;
    bool per_thread = id == VGPU_cuGraphLaunch_ptsz;
    if (!vgpu_compute_begin(&launch, graph, 0, stream, per_thread)) return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuGraphLaunch, id)(graph, stream);
    vgpu_compute_end(&launch, result, stream, per_thread);
    return result;
}

CUresult vgpu_launch(enum vgpu_function id, CUfunction function) {
    struct vgpu_launch launch;
    if (!vgpu_compute_begin(&launch, function, 1, 0, false)) return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuLaunch, id)(function);
    vgpu_compute_end(&launch, result, 0, false);
    return result;
}

CUresult vgpu_launch_grid(enum vgpu_function id, CUfunction function, int width, int height) {
    struct vgpu_launch launch;
    if (!vgpu_compute_begin(&launch, function, shape_of((unsigned)width, (unsigned)height, 1, 0, 0, 0), 0, false))
        return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuLaunchGrid, id)(function, width, height);
    vgpu_compute_end(&launch, result, 0, false);
    return result;
}

CUresult vgpu_launch_grid_async(enum vgpu_function id, CUfunction function, int width, int height, CUstream stream) {
    struct vgpu_launch launch;
    if (!vgpu_compute_begin(&launch, function, shape_of((unsigned)width, (unsigned)height, 1, 0, 0, 0), stream, false))
        return CUDA_ERROR_NOT_PERMITTED;
    CUresult result = REAL_AS(cuLaunchGridAsync, id)(function, width, height, stream);
    vgpu_compute_end(&launch, result, stream, false);
    return result;
}
