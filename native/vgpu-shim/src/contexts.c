/* Contexts: what one takes on the card, and everything that goes when it goes. */
#include "background.h"
#include "compute.h"
#include "growth.h"

#define MAX_ORDINALS 64

static CUcontext primary_contexts[MAX_ORDINALS];

struct creation {
    enum vgpu_function id;
    CUcontext *context;
    CUexecAffinityParam *affinities;
    int affinity_count;
    CUctxCreateParams *parameters;
    unsigned flags;
    CUdevice ordinal;
};

static CUresult create_plain(void *argument) {
    struct creation *c = argument;
    return REAL_AS(cuCtxCreate_v2, c->id)(c->context, c->flags, c->ordinal);
}

static CUresult create_v3(void *argument) {
    struct creation *c = argument;
    return REAL_AS(cuCtxCreate_v3, c->id)(c->context, c->affinities, c->affinity_count, c->flags, c->ordinal);
}

static CUresult create_v4(void *argument) {
    struct creation *c = argument;
    return REAL_AS(cuCtxCreate_v4, c->id)(c->context, c->parameters, c->flags, c->ordinal);
}

static CUresult retain(void *argument) {
    struct creation *c = argument;
    return REAL_AS(cuDevicePrimaryCtxRetain, c->id)(c->context, c->ordinal);
}

static CUresult undo_create(void *argument) {
    return REAL(cuCtxDestroy_v2)(*((struct creation *)argument)->context);
}

static CUresult undo_retain(void *argument) {
    return REAL(cuDevicePrimaryCtxRelease_v2)(((struct creation *)argument)->ordinal);
}

static uint64_t context_key(void *argument) { return (uint64_t)*((struct creation *)argument)->context; }

static CUresult charged(struct creation *creation, CUresult (*create)(void *), CUresult (*undo)(void *)) {
    if (!creation->context) return create(creation);
    struct vgpu_growth growth = {
        .device = vgpu_card_of_ordinal(creation->ordinal),
        .kind = VGPU_KIND_CONTEXT,
        .ledger = &vgpu_contexts,
        .create = create,
        .undo = undo,
        .key = context_key,
        .argument = creation,
    };
    CUresult result = vgpu_grow(&growth);
    if (result == CUDA_SUCCESS && growth.device) vgpu_background_start();
    return result;
}

CUresult vgpu_ctx_create(enum vgpu_function id, CUcontext *context, unsigned flags, CUdevice ordinal) {
    struct creation creation = {.id = id, .context = context, .flags = flags, .ordinal = ordinal};
    return charged(&creation, create_plain, undo_create);
}

CUresult vgpu_ctx_create_v3(enum vgpu_function id, CUcontext *context, CUexecAffinityParam *affinities, int count,
                            unsigned flags, CUdevice ordinal) {
    struct creation creation = {.id = id, .context = context, .affinities = affinities, .affinity_count = count,
                                .flags = flags, .ordinal = ordinal};
    return charged(&creation, create_v3, undo_create);
}

CUresult vgpu_ctx_create_v4(enum vgpu_function id, CUcontext *context, CUctxCreateParams *parameters, unsigned flags,
                            CUdevice ordinal) {
    struct creation creation = {.id = id, .context = context, .parameters = parameters, .flags = flags,
                                .ordinal = ordinal};
    return charged(&creation, create_v4, undo_create);
}

static bool primary_is_active(CUdevice ordinal) {
    unsigned flags;
    int active = 0;
    return REAL(cuDevicePrimaryCtxGetState)(ordinal, &flags, &active) == CUDA_SUCCESS && active;
}

CUresult vgpu_primary_ctx_retain(enum vgpu_function id, CUcontext *context, CUdevice ordinal) {
    struct creation creation = {.id = id, .context = context, .ordinal = ordinal};
    if (!context || ordinal < 0 || ordinal >= MAX_ORDINALS || primary_is_active(ordinal)) return retain(&creation);
    CUresult result = charged(&creation, retain, undo_retain);
    if (result == CUDA_SUCCESS) RELEASE_STORE(&primary_contexts[ordinal], *context);
    return result;
}

/* The driver has destroyed the context and all that it held. */
static void end(CUcontext context) {
    struct vgpu_holding holding;
    vgpu_end_context(context);
    vgpu_ledger_end_context(&vgpu_modules, context);
    vgpu_compute_end_context(context);
    if (vgpu_ledger_take(&vgpu_contexts, (uint64_t)context, &holding)) vgpu_charge_end(&holding.charge);
}

CUresult vgpu_ctx_destroy(enum vgpu_function id, CUcontext context) {
    CUresult result = REAL_AS(cuCtxDestroy_v2, id)(context);
    if (result == CUDA_SUCCESS && context) end(context);
    return result;
}

/* If the primary context is gone now, so is all that it held. */
static void end_primary_if_gone(CUdevice ordinal) {
    if (ordinal < 0 || ordinal >= MAX_ORDINALS || primary_is_active(ordinal)) return;
    CUcontext context = __atomic_exchange_n(&primary_contexts[ordinal], 0, __ATOMIC_ACQ_REL);
    if (context) end(context);
}

CUresult vgpu_primary_ctx_release(enum vgpu_function id, CUdevice ordinal) {
    CUresult result = REAL_AS(cuDevicePrimaryCtxRelease_v2, id)(ordinal);
    if (result == CUDA_SUCCESS) end_primary_if_gone(ordinal);
    return result;
}

/* A green context retains the primary one: retained here first, it is charged as any other. */
CUresult vgpu_green_ctx_create(enum vgpu_function id, CUgreenCtx *green, CUdevResourceDesc part, CUdevice ordinal,
                               unsigned flags) {
    CUcontext primary;
    if (!vgpu_card_of_ordinal(ordinal)) return REAL_AS(cuGreenCtxCreate, id)(green, part, ordinal, flags);
    CUresult result = vgpu_primary_ctx_retain(VGPU_cuDevicePrimaryCtxRetain, &primary, ordinal);
    if (result != CUDA_SUCCESS) return result;
    result = REAL_AS(cuGreenCtxCreate, id)(green, part, ordinal, flags);
    vgpu_primary_ctx_release(VGPU_cuDevicePrimaryCtxRelease_v2, ordinal);
    return result;
}

CUresult vgpu_green_ctx_destroy(enum vgpu_function id, CUgreenCtx green) {
    CUresult result = REAL_AS(cuGreenCtxDestroy, id)(green);
    for (CUdevice ordinal = 0; result == CUDA_SUCCESS && ordinal < MAX_ORDINALS; ordinal++)
        if (ACQUIRE_LOAD(&primary_contexts[ordinal])) end_primary_if_gone(ordinal);
    return result;
}
