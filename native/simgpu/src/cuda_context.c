/*
 * Contexts: what a process holds on a card before it allocates anything, and which one a thread uses.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdlib.h>

#define STACK_DEPTH 64

static SIMGPU_FAST_TLS CUcontext stack[STACK_DEPTH];
static SIMGPU_FAST_TLS int depth;
static struct CUctx_st primaries[SIMGPU_MAX_CARDS];
static pthread_mutex_t context_lock = PTHREAD_MUTEX_INITIALIZER;

CUcontext simgpu_current(void) {
    return depth ? stack[depth - 1] : NULL;
}

void simgpu_forget_contexts(void) {
    depth = 0;
    simgpu_forget_blocks();
    simgpu_forget_pools();
    simgpu_forget_graph_memory();
    simgpu_forget_managed();
    pthread_mutex_init(&context_lock, NULL);
    for (int card = 0; card < SIMGPU_MAX_CARDS; card++)
        primaries[card] = (struct CUctx_st){0};
}

static bool is_device(CUdevice device) {
    return device >= 0 && device < simgpu_device_count;
}

static CUresult open_context(CUcontext context, CUdevice device, unsigned flags) {
    int card = simgpu_device_cards[device];
    CUresult lost = simgpu_lost(card);
    if (lost != CUDA_SUCCESS)
        return lost;
    if (!simgpu_charge(card, simgpu->cards[card].facts.context_bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    simgpu->slots[simgpu_slot].accounts[card].contexts++;
    context->id = simgpu_next_id();
    context->device = device;
    context->card = card;
    context->flags = flags;
    context->limits[CU_LIMIT_STACK_SIZE] = 1024;
    context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20;
    context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
    context->limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
    context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
    context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
    context->alive = true;
    return CUDA_SUCCESS;
}

static void close_context(CUcontext context) {
    context->alive = false;
    simgpu_release_context_blocks(context);
    simgpu_trim_graph_memory(context->card);
    simgpu_destroy_streams(context);
    simgpu_discharge(context->card, simgpu->cards[context->card].facts.context_bytes);
    simgpu->slots[simgpu_slot].accounts[context->card].contexts--;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    CUcontext context = &primaries[device];
    pthread_mutex_lock(&context_lock);
    CUresult result = context->alive ? CUDA_SUCCESS : open_context(context, device, context->flags);
    if (result == CUDA_SUCCESS) {
        context->primary = true;
        context->references++;
        *out = context;
    }
    pthread_mutex_unlock(&context_lock);
    return result;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    CUcontext context = &primaries[device];
    pthread_mutex_lock(&context_lock);
    bool held = context->alive && context->references > 0;
    if (held && --context->references == 0)
        close_context(context);
    pthread_mutex_unlock(&context_lock);
    return held ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    pthread_mutex_lock(&context_lock);
    if (primaries[device].alive)
        close_context(&primaries[device]);
    primaries[device].references = 0;
    pthread_mutex_unlock(&context_lock);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    primaries[device].flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
    SIMGPU_ENTER();
    SIMGPU_NEED(flags && active, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    *flags = primaries[device].flags;
    *active = primaries[device].alive;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v4(CUcontext *out, CUctxCreateParams *parameters, unsigned int flags, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(is_device(device), CUDA_ERROR_INVALID_DEVICE);
    SIMGPU_NEED(!parameters || !parameters->execAffinityParams, CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY);
    SIMGPU_NEED(depth < STACK_DEPTH, CUDA_ERROR_OPERATING_SYSTEM);
    CUcontext context = calloc(1, sizeof *context);
    SIMGPU_NEED(context, CUDA_ERROR_OUT_OF_MEMORY);
    CUresult result = open_context(context, device, flags);
    if (result != CUDA_SUCCESS) {
        free(context);
        return result;
    }
    stack[depth++] = *out = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v3(CUcontext *out, CUexecAffinityParam *list, int count, unsigned int flags, CUdevice device) {
    SIMGPU_NEED(!list && count == 0, CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY);
    return cuCtxCreate_v4(out, NULL, flags, device);
}

CUresult cuCtxCreate_v2(CUcontext *out, unsigned int flags, CUdevice device) {
    return cuCtxCreate_v4(out, NULL, flags, device);
}

/* The object itself is kept: a stale handle must answer with an error, not with a crash. */
CUresult cuCtxDestroy_v2(CUcontext context) {
    SIMGPU_ENTER();
    SIMGPU_NEED(context && context->alive && !context->primary, CUDA_ERROR_INVALID_CONTEXT);
    pthread_mutex_lock(&context_lock);
    close_context(context);
    pthread_mutex_unlock(&context_lock);
    if (depth && stack[depth - 1] == context)
        depth--;
    return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext context) {
    return cuCtxDestroy_v2(context);
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
    SIMGPU_ENTER();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(depth < STACK_DEPTH, CUDA_ERROR_OPERATING_SYSTEM);
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *out) {
    SIMGPU_ENTER();
    SIMGPU_NEED(depth, CUDA_ERROR_INVALID_CONTEXT);
    CUcontext top = stack[--depth];
    if (out)
        *out = top;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    SIMGPU_ENTER();
    if (!context) {
        depth -= depth > 0;
        return CUDA_SUCCESS;
    }
    SIMGPU_NEED(context->alive, CUDA_ERROR_INVALID_CONTEXT);
    depth += depth == 0;
    stack[depth - 1] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *out) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out, CUDA_ERROR_INVALID_VALUE);
    *out = simgpu_current();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext context) {
    SIMGPU_ENTER();
    SIMGPU_NEED(device, CUDA_ERROR_INVALID_VALUE);
    context = context ? context : simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    *device = context->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
    return cuCtxGetDevice_v2(device, NULL);
}

CUresult cuCtxGetFlags(unsigned int *flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(flags, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    *flags = simgpu_current()->flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    simgpu_current()->flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext context, unsigned long long *id) {
    SIMGPU_ENTER();
    context = context ? context : simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    SIMGPU_NEED(id, CUDA_ERROR_INVALID_VALUE);
    *id = context->id;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version) {
    SIMGPU_ENTER();
    context = context ? context : simgpu_current();
    SIMGPU_NEED(version && context, CUDA_ERROR_INVALID_CONTEXT);
    *version = 3020;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    SIMGPU_ENTER();
    SIMGPU_NEED(simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED((unsigned)limit < CU_LIMIT_MAX, CUDA_ERROR_UNSUPPORTED_LIMIT);
    simgpu_current()->limits[limit] = value;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit) {
    SIMGPU_ENTER();
    SIMGPU_NEED(value, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED((unsigned)limit < CU_LIMIT_MAX, CUDA_ERROR_UNSUPPORTED_LIMIT);
    *value = simgpu_current()->limits[limit];
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *config) {
    SIMGPU_ENTER();
    SIMGPU_NEED(config, CUDA_ERROR_INVALID_VALUE);
    *config = CU_FUNC_CACHE_PREFER_NONE;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
    SIMGPU_ENTER();
    (void)config; /* a hint */
    return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    SIMGPU_ENTER();
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache(void) {
    SIMGPU_ENTER();
    return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(flags == 0, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(peer && peer->alive && simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    return CUDA_SUCCESS;
}

CUresult cuCtxDisablePeerAccess(CUcontext peer) {
    SIMGPU_ENTER();
    SIMGPU_NEED(peer && peer->alive, CUDA_ERROR_INVALID_CONTEXT);
    return CUDA_SUCCESS;
}
