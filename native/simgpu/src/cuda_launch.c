/*
 * Launches: a kernel takes its time on the card's time line, and three kernels really do their work.
 *
 * spin_ns(u64 ns) occupies the card for so long; fill_u32(u64 address, u32 value, u64 count) and
 * add_f32(u64 a, u64 b, u64 sum, u64 count) change memory. Every kernel but spin_ns takes
 * 5 us per wave, a wave being what fills all multiprocessors with 2048 threads each.
 */
#include "cuda_module.h"

#include <string.h>

#define WAVE_NS 5000ull
#define THREADS_PER_MULTIPROCESSOR 2048ull

/* The address of parameter `index`, from either of the two ways to pass parameters. */
static const void *parameter(const struct simgpu_launch *launch, unsigned index) {
    if (launch->parameters)
        return launch->parameters[index];
    const char *buffer = NULL;
    for (void **at = launch->extra; at && *at != CU_LAUNCH_PARAM_END; at += 2)
        if (*at == CU_LAUNCH_PARAM_BUFFER_POINTER)
            buffer = at[1];
    return buffer ? buffer + launch->function->parameter_offset[index] : NULL;
}

static uint64_t number(const struct simgpu_launch *launch, unsigned index) {
    const void *at = parameter(launch, index);
    uint64_t value = 0;
    if (at)
        memcpy(&value, at, launch->function->parameter_size[index]);
    return value;
}

static bool in_allocation(uint64_t address, uint64_t bytes) {
    struct simgpu_block *block = simgpu_find_block(address);
    return block && bytes <= block->size - (address - block->base);
}

static CUresult fill(const struct simgpu_launch *launch) {
    uint32_t *at = (uint32_t *)number(launch, 0), value = (uint32_t)number(launch, 1);
    uint64_t count = number(launch, 2);
    SIMGPU_NEED(count < 1ull << 44 && in_allocation((uint64_t)at, count * 4), CUDA_ERROR_ILLEGAL_ADDRESS);
    for (uint64_t index = 0; index < count; index++)
        at[index] = value;
    return CUDA_SUCCESS;
}

static CUresult add(const struct simgpu_launch *launch) {
    const float *a = (const float *)number(launch, 0), *b = (const float *)number(launch, 1);
    float *sum = (float *)number(launch, 2);
    uint64_t count = number(launch, 3);
    SIMGPU_NEED(count < 1ull << 44 && in_allocation((uint64_t)a, count * 4), CUDA_ERROR_ILLEGAL_ADDRESS);
    SIMGPU_NEED(in_allocation((uint64_t)b, count * 4), CUDA_ERROR_ILLEGAL_ADDRESS);
    SIMGPU_NEED(in_allocation((uint64_t)sum, count * 4), CUDA_ERROR_ILLEGAL_ADDRESS);
    for (uint64_t index = 0; index < count; index++)
        sum[index] = a[index] + b[index];
    return CUDA_SUCCESS;
}

static uint64_t usual_duration(const struct simgpu_launch *launch, int card) {
    uint64_t blocks = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
    uint64_t threads = blocks * launch->block[0] * launch->block[1] * launch->block[2];
    uint64_t wave = simgpu->cards[card].facts.multiprocessors * THREADS_PER_MULTIPROCESSOR;
    return WAVE_NS * ((threads + wave - 1) / wave);
}

CUresult simgpu_run_launch(const struct simgpu_launch *launch, CUstream stream) {
    int card = stream->context->card;
    CUresult result = CUDA_SUCCESS;
    if (SIMGPU_UNLIKELY(simgpu_counting_only)) {
        simgpu_occupy(card, 0, 0);
        return CUDA_SUCCESS;
    }
    SIMGPU_NEED(simgpu_load_lazily(launch->function, card), CUDA_ERROR_OUT_OF_MEMORY);
    simgpu_settle_managed();
    uint64_t duration = 0;
    if (launch->function->kind == SIMGPU_KERNEL_SPIN)
        duration = number(launch, 0);
    else
        duration = usual_duration(launch, card);
    if (launch->function->kind == SIMGPU_KERNEL_FILL)
        result = fill(launch);
    if (launch->function->kind == SIMGPU_KERNEL_ADD)
        result = add(launch);
    stream->last_end = simgpu_occupy(card, stream->last_end, duration);
    return result;
}

CUresult simgpu_launch(const struct simgpu_launch *launch, CUstream handle) {
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(launch->function, CUDA_ERROR_INVALID_HANDLE);
    const unsigned *grid = launch->grid, *block = launch->block;
    SIMGPU_NEED(grid[0] && grid[1] && grid[2] && block[0] && block[1] && block[2], CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED((uint64_t)block[0] * block[1] * block[2] <= 1024, CUDA_ERROR_INVALID_VALUE);
    if (SIMGPU_UNLIKELY(stream->capture))
        return simgpu_capture_launch(launch, stream);
    return simgpu_run_launch(launch, stream);
}

CUresult cuLaunchKernel(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                        unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **parameters,
                        void **extra) {
    SIMGPU_ENTER();
    (void)shared;
    struct simgpu_launch launch = {function, {gx, gy, gz}, {bx, by, bz}, parameters, extra};
    return simgpu_launch(&launch, stream);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    SIMGPU_ENTER();
    SIMGPU_NEED(config, CUDA_ERROR_INVALID_VALUE);
    struct simgpu_launch launch = {function,
                                   {config->gridDimX, config->gridDimY, config->gridDimZ},
                                   {config->blockDimX, config->blockDimY, config->blockDimZ},
                                   parameters,
                                   extra};
    return simgpu_launch(&launch, config->hStream);
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    SIMGPU_ENTER();
    SIMGPU_NEED(config, CUDA_ERROR_INVALID_VALUE);
    CUlaunchConfig own = *config;
    own.hStream = simgpu_thread_stream(config->hStream);
    return cuLaunchKernelEx(&own, function, parameters, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz,
                                   unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                                   CUstream stream, void **parameters) {
    SIMGPU_ENTER();
    (void)shared;
    struct simgpu_launch launch = {function, {gx, gy, gz}, {bx, by, bz}, parameters, NULL};
    return simgpu_launch(&launch, stream);
}
