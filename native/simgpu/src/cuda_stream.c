/*
 * Streams: an order of work, and a clock that says when the work put in so far will be done.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static SIMGPU_FAST_TLS CUstream own_stream;

static CUstream new_stream(CUcontext context, unsigned flags, int priority) {
    CUstream stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    stream->id = simgpu_next_id();
    stream->context = context;
    stream->flags = flags;
    stream->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    pthread_mutex_lock(&list_lock);
    stream->next = context->streams;
    context->streams = stream;
    pthread_mutex_unlock(&list_lock);
    return stream;
}

static CUstream default_stream(CUcontext context, bool per_thread) {
    if (per_thread) {
        if (!own_stream || own_stream->context != context)
            own_stream = new_stream(context, CU_STREAM_NON_BLOCKING, 0);
        return own_stream;
    }
    if (!context->legacy)
        context->legacy = new_stream(context, 0, 0);
    return context->legacy;
}

CUstream simgpu_thread_stream(CUstream stream) {
    return stream ? stream : CU_STREAM_PER_THREAD;
}

CUstream simgpu_stream(CUstream handle) {
    if ((uintptr_t)handle > 2)
        return handle;
    CUcontext context = simgpu_current();
    if (!context || !context->alive)
        return NULL;
    if (!handle && context->legacy)
        return context->legacy;
    return default_stream(context, handle == CU_STREAM_PER_THREAD);
}

void simgpu_destroy_streams(CUcontext context) {
    pthread_mutex_lock(&list_lock);
    while (context->streams) {
        CUstream stream = context->streams;
        context->streams = stream->next;
        if (own_stream == stream)
            own_stream = NULL;
        free(stream);
    }
    context->legacy = NULL;
    pthread_mutex_unlock(&list_lock);
}

void simgpu_stream_ready(CUstream stream) {
    if (simgpu_counting_only)
        return;
    while (atomic_load(&stream->host_calls))
        simgpu_wait_until(simgpu_now() + 50000);
    simgpu_wait_until(stream->last_end);
}

CUresult cuStreamCreateWithPriority(CUstream *out, unsigned int flags, int priority) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && flags <= CU_STREAM_NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
    CUcontext context = simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    *out = new_stream(context, flags, priority);
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuStreamCreate(CUstream *out, unsigned int flags) {
    return cuStreamCreateWithPriority(out, flags, 0);
}

static void unlink_stream(CUstream stream) {
    CUstream *at = &stream->context->streams;
    while (*at && *at != stream)
        at = &(*at)->next;
    if (*at)
        *at = stream->next;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
    SIMGPU_ENTER();
    SIMGPU_NEED((uintptr_t)stream > 2, CUDA_ERROR_INVALID_HANDLE);
    simgpu_stream_ready(stream);
    pthread_mutex_lock(&list_lock);
    unlink_stream(stream);
    pthread_mutex_unlock(&list_lock);
    free(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(!stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    simgpu_stream_ready(stream);
    return SIMGPU_UNLIKELY(simgpu->armed) ? simgpu_lost(stream->context->card) : CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream handle) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(!stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    bool busy = atomic_load(&stream->host_calls) || stream->last_end > simgpu_now();
    return busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuCtxSynchronize_v2(CUcontext context) {
    SIMGPU_ENTER();
    context = context ? context : simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    uint64_t last = 0;
    bool calls = false;
    do {
        pthread_mutex_lock(&list_lock);
        calls = false;
        for (CUstream stream = context->streams; stream; stream = stream->next) {
            last = stream->last_end > last ? stream->last_end : last;
            calls |= atomic_load(&stream->host_calls) > 0;
        }
        pthread_mutex_unlock(&list_lock);
        if (!simgpu_counting_only)
            simgpu_wait_until(calls ? simgpu_now() + 50000 : last);
    } while (calls);
    return SIMGPU_UNLIKELY(simgpu->armed) ? simgpu_lost(context->card) : CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
    return cuCtxSynchronize_v2(NULL);
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned int flags) {
    SIMGPU_ENTER();
    (void)flags;
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && event, CUDA_ERROR_INVALID_HANDLE);
    if (event->recorded && event->moment > stream->last_end)
        stream->last_end = event->moment;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream handle, int *priority) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && priority, CUDA_ERROR_INVALID_VALUE);
    *priority = stream->priority;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned int *flags) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && flags, CUDA_ERROR_INVALID_VALUE);
    *flags = stream->flags;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream handle, unsigned long long *id) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && id, CUDA_ERROR_INVALID_VALUE);
    *id = stream->id;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetDevice(CUstream handle, CUdevice *device) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && device, CUDA_ERROR_INVALID_VALUE);
    *device = stream->context->device;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *context) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && context, CUDA_ERROR_INVALID_VALUE);
    *context = stream->context;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext *context, CUgreenCtx *green) {
    if (green)
        *green = NULL;
    return cuStreamGetCtx(handle, context);
}

CUresult cuStreamAttachMemAsync(CUstream handle, CUdeviceptr address, size_t length, unsigned int flags) {
    SIMGPU_ENTER();
    (void)handle, (void)length, (void)flags;
    return simgpu_find_block(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
