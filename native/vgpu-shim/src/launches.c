/* The ways to put work on a card.
 *
 * cuLaunchKernel and cuLaunchKernelEx stand here with their exported names: what may pass is a jump into the
 * driver with its arguments where they are. Everything else goes the long way (compute.h). */
#include "compute.h"
#include "graphs.h"

#define MAX_CARDS_OF_A_LAUNCH 64

/* Kept apart, so that the entry points need no frame. */
#define ASKS __attribute__((noinline))

/* Keeps two tail calls from becoming one to a chosen address, which would take one register more. */
#define APART __asm__ volatile("")

/* NULL before the first launch of its kind, for which a pass then was paid in vain. */
#define KNOWN_REAL(name, id) ((vgpu_fn_##name)RELAXED_LOAD(&vgpu_real_functions[id]))

static CUresult refused(void) { return CUDA_ERROR_NOT_PERMITTED; }

CUresult vgpu_launch_kernel(enum vgpu_function id, CUfunction function, unsigned x, unsigned y, unsigned z, unsigned bx,
                            unsigned by, unsigned bz, unsigned shared, CUstream stream, void **parameters, void **extra) {
    struct vgpu_launch launch;
    struct vgpu_shape shape = vgpu_shape_of(x, y, z, bx, by, bz);
    if (!vgpu_compute_begin(&launch, function, shape, stream, id == VGPU_cuLaunchKernel_ptsz)) return refused();
    CUresult result = REAL_AS(cuLaunchKernel, id)(function, x, y, z, bx, by, bz, shared, stream, parameters, extra);
    vgpu_compute_end(&launch, result);
    return result;
}

static inline struct vgpu_shape shape_of_config(const CUlaunchConfig *config) {
    return vgpu_shape_of(config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX, config->blockDimY,
                         config->blockDimZ);
}

CUresult vgpu_launch_kernel_ex(enum vgpu_function id, const CUlaunchConfig *config, CUfunction function,
                               void **parameters, void **extra) {
    struct vgpu_launch launch;
    if (!config) return REAL_AS(cuLaunchKernelEx, id)(config, function, parameters, extra);
    if (!vgpu_compute_begin(&launch, function, shape_of_config(config), config->hStream,
                            id == VGPU_cuLaunchKernelEx_ptsz)) return refused();
    CUresult result = REAL_AS(cuLaunchKernelEx, id)(config, function, parameters, extra);
    vgpu_compute_end(&launch, result);
    return result;
}

static ASKS CUresult ask_cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, CUstream stream, void **parameters, void **extra) {
    return vgpu_launch_kernel(VGPU_cuLaunchKernel, function, x, y, z, bx, by, bz, shared, stream, parameters, extra);
}

VGPU_EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                                unsigned bz, unsigned shared, CUstream stream, void **parameters, void **extra) {
    vgpu_fn_cuLaunchKernel next = ask_cuLaunchKernel;
    if (VGPU_LIKELY(vgpu_may_pass(function, vgpu_shape_of(x, y, z, bx, by, bz)))) next = KNOWN_REAL(cuLaunchKernel, VGPU_cuLaunchKernel);
    if (VGPU_UNLIKELY(!next)) next = ask_cuLaunchKernel;
    return next(function, x, y, z, bx, by, bz, shared, stream, parameters, extra);
}

static ASKS CUresult ask_cuLaunchKernel_ptsz(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, CUstream stream, void **parameters, void **extra) {
    return vgpu_launch_kernel(VGPU_cuLaunchKernel_ptsz, function, x, y, z, bx, by, bz, shared, stream, parameters, extra);
}

VGPU_EXPORT CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                                unsigned bz, unsigned shared, CUstream stream, void **parameters, void **extra) {
    vgpu_fn_cuLaunchKernel next = ask_cuLaunchKernel_ptsz;
    if (VGPU_LIKELY(vgpu_may_pass(function, vgpu_shape_of(x, y, z, bx, by, bz)))) next = KNOWN_REAL(cuLaunchKernel, VGPU_cuLaunchKernel_ptsz);
    if (VGPU_UNLIKELY(!next)) next = ask_cuLaunchKernel_ptsz;
    return next(function, x, y, z, bx, by, bz, shared, stream, parameters, extra);
}

static ASKS CUresult ask_cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    return vgpu_launch_kernel_ex(VGPU_cuLaunchKernelEx, config, function, parameters, extra);
}

VGPU_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    vgpu_fn_cuLaunchKernelEx next = KNOWN_REAL(cuLaunchKernelEx, VGPU_cuLaunchKernelEx);
    if (VGPU_UNLIKELY(!next || !config || !vgpu_may_pass(function, shape_of_config(config)))) next = ask_cuLaunchKernelEx;
    VGPU_TAIL_CALL next(config, function, parameters, extra);
}

static ASKS CUresult ask_cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    return vgpu_launch_kernel_ex(VGPU_cuLaunchKernelEx_ptsz, config, function, parameters, extra);
}

VGPU_EXPORT CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    vgpu_fn_cuLaunchKernelEx next = KNOWN_REAL(cuLaunchKernelEx, VGPU_cuLaunchKernelEx_ptsz);
    if (VGPU_UNLIKELY(!next || !config || !vgpu_may_pass(function, shape_of_config(config)))) next = ask_cuLaunchKernelEx_ptsz;
    VGPU_TAIL_CALL next(config, function, parameters, extra);
}

CUresult vgpu_launch_cooperative_kernel(enum vgpu_function id, CUfunction function, unsigned x, unsigned y, unsigned z,
                                        unsigned bx, unsigned by, unsigned bz, unsigned shared, CUstream stream,
                                        void **parameters) {
    struct vgpu_launch launch;
    struct vgpu_shape shape = vgpu_shape_of(x, y, z, bx, by, bz);
    if (!vgpu_compute_begin(&launch, function, shape, stream, id == VGPU_cuLaunchCooperativeKernel_ptsz)) return refused();
    CUresult result = REAL_AS(cuLaunchCooperativeKernel, id)(function, x, y, z, bx, by, bz, shared, stream, parameters);
    vgpu_compute_end(&launch, result);
    return result;
}

/* Runs a step of one launch of several with the context of its stream current: each card pays its own. */
static bool enter_context_of(CUstream stream) {
    CUcontext context;
    return REAL(cuStreamGetCtx)(stream, &context) == CUDA_SUCCESS && REAL(cuCtxPushCurrent_v2)(context) == CUDA_SUCCESS;
}

static void leave_context(bool entered) {
    CUcontext context;
    if (entered) REAL(cuCtxPopCurrent_v2)(&context);
}

static bool begin_on_own_card(struct vgpu_launch *launch, const CUDA_LAUNCH_PARAMS *p) {
    struct vgpu_shape shape = vgpu_shape_of(p->gridDimX, p->gridDimY, p->gridDimZ, p->blockDimX, p->blockDimY, p->blockDimZ);
    bool entered = enter_context_of(p->hStream);
    bool allowed = vgpu_compute_begin(launch, p->function, shape, p->hStream, false);
    leave_context(entered);
    return allowed;
}

static void end_on_own_card(struct vgpu_launch *launch, CUresult result, const CUDA_LAUNCH_PARAMS *p) {
    bool entered = enter_context_of(p->hStream);
    vgpu_compute_end(launch, result);
    leave_context(entered);
}

CUresult vgpu_launch_multi_device(enum vgpu_function id, CUDA_LAUNCH_PARAMS *launches, unsigned count, unsigned flags) {
    struct vgpu_launch own[MAX_CARDS_OF_A_LAUNCH];
    unsigned begun = 0, wanted = !launches ? 0 : count < MAX_CARDS_OF_A_LAUNCH ? count : MAX_CARDS_OF_A_LAUNCH;
    while (begun < wanted && begin_on_own_card(&own[begun], &launches[begun])) begun++;
    CUresult result = begun < wanted ? refused() : REAL_AS(cuLaunchCooperativeKernelMultiDevice, id)(launches, count, flags);
    for (unsigned i = 0; i < begun; i++) end_on_own_card(&own[i], result, &launches[i]);
    return result;
}

static CUresult launch_graph(enum vgpu_function id, CUgraphExec graph, CUstream stream) {
    struct vgpu_launch launch;
    if (!vgpu_compute_begin(&launch, graph, (struct vgpu_shape){0}, stream, id == VGPU_cuGraphLaunch_ptsz)) return refused();
    CUresult result = REAL_AS(cuGraphLaunch, id)(graph, stream);
    vgpu_compute_end(&launch, result);
    return result;
}

CUresult vgpu_graph_launch(enum vgpu_function id, CUgraphExec graph, CUstream stream) {
    struct vgpu_graph_memory memory;
    if (VGPU_LIKELY(!RELAXED_LOAD(&vgpu_graphs_with_memory))) return launch_graph(id, graph, stream);
    if (!vgpu_graph_memory_begin(&memory, graph)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = launch_graph(id, graph, stream);
    vgpu_graph_memory_end(&memory);
    return result;
}

CUresult vgpu_launch(enum vgpu_function id, CUfunction function) {
    struct vgpu_launch launch;
    if (!vgpu_compute_begin(&launch, function, vgpu_shape_of(1, 1, 1, 0, 0, 0), 0, false)) return refused();
    CUresult result = REAL_AS(cuLaunch, id)(function);
    vgpu_compute_end(&launch, result);
    return result;
}

CUresult vgpu_launch_grid(enum vgpu_function id, CUfunction function, int width, int height) {
    struct vgpu_launch launch;
    struct vgpu_shape shape = vgpu_shape_of((unsigned)width, (unsigned)height, 1, 0, 0, 0);
    if (!vgpu_compute_begin(&launch, function, shape, 0, false)) return refused();
    CUresult result = REAL_AS(cuLaunchGrid, id)(function, width, height);
    vgpu_compute_end(&launch, result);
    return result;
}

CUresult vgpu_launch_grid_async(enum vgpu_function id, CUfunction function, int width, int height, CUstream stream) {
    struct vgpu_launch launch;
    struct vgpu_shape shape = vgpu_shape_of((unsigned)width, (unsigned)height, 1, 0, 0, 0);
    if (!vgpu_compute_begin(&launch, function, shape, stream, false)) return refused();
    CUresult result = REAL_AS(cuLaunchGridAsync, id)(function, width, height, stream);
    vgpu_compute_end(&launch, result);
    return result;
}
