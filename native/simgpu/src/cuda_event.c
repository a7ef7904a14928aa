/*
 * Events: a moment on the card's time line.
 */
#include "cuda_api.h"

#include <stdlib.h>

CUresult cuEventCreate(CUevent *out, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    CUevent event = calloc(1, sizeof *event);
    SIMGPU_NEED(event, CUDA_ERROR_OUT_OF_MEMORY);
    event->context = simgpu_current();
    event->flags = flags;
    *out = event;
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
    SIMGPU_ENTER();
    SIMGPU_NEED(event, CUDA_ERROR_INVALID_HANDLE);
    free(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream handle) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(event && stream, CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture)
        return CUDA_SUCCESS; /* orders nothing more: a captured stream is one chain */
    uint64_t now = simgpu_counting_only ? 0 : simgpu_now();
    event->moment = stream->last_end > now ? stream->last_end : now;
    event->recorded = true;
    return CUDA_SUCCESS;
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
    (void)flags;
    return cuEventRecord(event, stream);
}

CUresult cuEventQuery(CUevent event) {
    SIMGPU_ENTER();
    SIMGPU_NEED(event, CUDA_ERROR_INVALID_HANDLE);
    return event->recorded && event->moment > simgpu_now() ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event) {
    SIMGPU_ENTER();
    SIMGPU_NEED(event, CUDA_ERROR_INVALID_HANDLE);
    if (event->recorded)
        simgpu_wait_until(event->moment);
    return SIMGPU_UNLIKELY(simgpu->armed) ? simgpu_lost(event->context->card) : CUDA_SUCCESS;
}

CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
    SIMGPU_ENTER();
    SIMGPU_NEED(milliseconds, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(start && end && start->recorded && end->recorded, CUDA_ERROR_INVALID_HANDLE);
    SIMGPU_NEED(!((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING), CUDA_ERROR_INVALID_HANDLE);
    uint64_t now = simgpu_now();
    SIMGPU_NEED(start->moment <= now && end->moment <= now, CUDA_ERROR_NOT_READY);
    double between = (double)(int64_t)(end->moment - start->moment) * (double)simgpu->event_percent / 100;
    *milliseconds = (float)(between / 1e6);
    return CUDA_SUCCESS;
}
