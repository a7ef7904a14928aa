/*
 * A cooperative launch on several cards at once: all parts or none, and no part begins before the work that was
 * put into the other streams earlier is done, unless the program says that it need not.
 */
#include "cuda_api.h"

static bool is_own_stream(CUstream stream) {
    return stream && stream != CU_STREAM_LEGACY && stream != CU_STREAM_PER_THREAD;
}

/* Whether part `index` may be launched beside the parts before it. */
static bool fits_with(const CUDA_LAUNCH_PARAMS *parts, unsigned index) {
    CUstream stream = is_own_stream(parts[index].hStream) ? simgpu_stream(parts[index].hStream) : NULL;
    if (!stream || !parts[index].function || stream->capture)
        return false;
    for (unsigned other = 0; other < index; other++)
        if (simgpu_stream(parts[other].hStream)->context->card == stream->context->card)
            return false;
    return true;
}

static void wait_for_each_other(const CUDA_LAUNCH_PARAMS *parts, unsigned count) {
    uint64_t last = 0;
    for (unsigned index = 0; index < count; index++)
        if (parts[index].hStream->last_end > last)
            last = parts[index].hStream->last_end;
    for (unsigned index = 0; index < count; index++)
        parts[index].hStream->last_end = last;
}

CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *parts, unsigned int count, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(parts && count, CUDA_ERROR_INVALID_VALUE);
    for (unsigned index = 0; index < count; index++)
        SIMGPU_NEED(fits_with(parts, index), CUDA_ERROR_INVALID_VALUE);
    if (!(flags & CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_PRE_LAUNCH_SYNC))
        wait_for_each_other(parts, count);
    CUresult result = CUDA_SUCCESS;
    for (unsigned index = 0; index < count && result == CUDA_SUCCESS; index++) {
        const CUDA_LAUNCH_PARAMS *part = &parts[index];
        struct simgpu_launch launch = {part->function,
                                       {part->gridDimX, part->gridDimY, part->gridDimZ},
                                       {part->blockDimX, part->blockDimY, part->blockDimZ},
                                       part->kernelParams,
                                       NULL};
        result = simgpu_launch(&launch, part->hStream);
    }
    if (result == CUDA_SUCCESS && !(flags & CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_POST_LAUNCH_SYNC))
        wait_for_each_other(parts, count);
    return result;
}
