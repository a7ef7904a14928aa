/*
 * Host functions of streams: one worker thread calls them when the work before them is done.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdlib.h>

struct call {
    CUstream stream;
    uint64_t moment;
    CUhostFn function;
    void *argument;
    struct call *next;
};

static struct call *waiting;
static bool running;
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&queue_lock);
        while (!waiting)
            pthread_cond_wait(&arrived, &queue_lock);
        struct call *call = waiting;
        waiting = call->next;
        pthread_mutex_unlock(&queue_lock);
        simgpu_wait_until(call->moment);
        call->function(call->argument);
        atomic_fetch_sub(&call->stream->host_calls, 1);
        free(call);
    }
    return NULL;
}

static void start_worker(void) {
    pthread_t thread;
    running = pthread_create(&thread, NULL, work, NULL) == 0;
    if (running)
        pthread_detach(thread);
}

void simgpu_call_later(CUstream stream, CUhostFn function, void *argument) {
    struct call *call = malloc(sizeof *call), **at = &waiting;
    *call = (struct call){stream, stream->last_end, function, argument, NULL};
    atomic_fetch_add(&stream->host_calls, 1);
    pthread_mutex_lock(&queue_lock);
    if (!running)
        start_worker();
    while (*at && (*at)->moment <= call->moment)
        at = &(*at)->next;
    call->next = *at;
    *at = call;
    pthread_cond_signal(&arrived);
    pthread_mutex_unlock(&queue_lock);
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *argument) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(function, CUDA_ERROR_INVALID_VALUE);
    if (stream->capture)
        return simgpu_capture_host(stream, function, argument);
    simgpu_call_later(stream, function, argument);
    return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc_v2(CUstream handle, CUhostFn function, void *argument, unsigned int mode) {
    (void)mode;
    return cuLaunchHostFunc(handle, function, argument);
}

struct callback {
    CUstream handle;
    CUstreamCallback function;
    void *argument;
};

static void run_callback(void *argument) {
    struct callback callback = *(struct callback *)argument;
    free(argument);
    callback.function(callback.handle, CUDA_SUCCESS, callback.argument);
}

CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback function, void *argument, unsigned int flags) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(function && flags == 0, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(!stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    struct callback *callback = malloc(sizeof *callback);
    SIMGPU_NEED(callback, CUDA_ERROR_OUT_OF_MEMORY);
    *callback = (struct callback){handle, function, argument};
    simgpu_call_later(stream, run_callback, callback);
    return CUDA_SUCCESS;
}
