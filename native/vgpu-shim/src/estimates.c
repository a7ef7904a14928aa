/* A measured span holds the launch and whatever other tenants put in between. So a span far above the
 * shortest seen lately counts as disturbed, and the mean is taken over the others. */
#include "estimates.h"

#include <string.h>

#include "compute.h"

#define ESTIMATES 4096u
#define SAMPLES 32u
#define SAMPLE_PERIOD_NS 1000000u /* measure about once per this much device time */
#define LONGEST_TURN 256u
#define FORGET_LEAST_AFTER 64u

enum sample_state { SAMPLE_FREE, SAMPLE_TAKEN, SAMPLE_PENDING };

struct vgpu_sample {
    uint32_t state;
    CUcontext context; /* whose events these are; 0: none made yet */
    CUevent before, after;
    struct vgpu_device *device;
    struct vgpu_estimate *estimate;
    int64_t paid_ns;
};

static struct vgpu_estimate estimates[ESTIMATES + 1];
static struct vgpu_sample samples[SAMPLES];

static uint64_t mixed(uint64_t a, uint64_t b) {
    uint64_t key = (a ^ b * 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;
    key ^= key >> 29;
    return key ? key : 1;
}

struct vgpu_estimate *vgpu_estimate_of(const void *work, uint64_t shape) {
    uint64_t key = mixed((uint64_t)work, shape);
    for (uint32_t step = 0; step < 64; step++) {
        struct vgpu_estimate *estimate = &estimates[(key + step) % ESTIMATES];
        uint64_t seen = RELAXED_LOAD(&estimate->key);
        if (seen == key) return estimate;
        if (!seen && __atomic_compare_exchange_n(&estimate->key, &seen, key, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return estimate;
        if (seen == key) return estimate;
    }
    return &estimates[ESTIMATES];
}

bool vgpu_estimate_wants_sample(struct vgpu_estimate *estimate) {
    uint64_t mean = RELAXED_LOAD(&estimate->mean_ns);
    uint64_t every = mean ? SAMPLE_PERIOD_NS / mean : 1;
    uint32_t turn = RELAXED_LOAD(&estimate->turn) + 1;
    bool due = turn >= (every > LONGEST_TURN ? LONGEST_TURN : every) || estimate->samples < 4;
    __atomic_store_n(&estimate->turn, due ? 0 : turn, __ATOMIC_RELAXED);
    return due;
}

static bool is_capturing(CUstream stream, bool per_thread) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUresult result = per_thread ? REAL(cuStreamIsCapturing_ptsz)(stream, &status) : REAL(cuStreamIsCapturing)(stream, &status);
    return result != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

static CUresult record(CUevent event, CUstream stream, bool per_thread) {
    return per_thread ? REAL(cuEventRecord_ptsz)(event, stream) : REAL(cuEventRecord)(event, stream);
}

static bool make_events(struct vgpu_sample *sample, CUcontext context) {
    if (REAL(cuEventCreate)(&sample->before, CU_EVENT_DEFAULT) != CUDA_SUCCESS) return false;
    if (REAL(cuEventCreate)(&sample->after, CU_EVENT_DEFAULT) != CUDA_SUCCESS) {
        REAL(cuEventDestroy_v2)(sample->before);
        return false;
    }
    sample->context = context;
    return true;
}

static struct vgpu_sample *take_free(CUcontext context) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint32_t free = SAMPLE_FREE;
        CUcontext owner = RELAXED_LOAD(&samples[i].context);
        if ((owner && owner != context) || RELAXED_LOAD(&samples[i].state) != SAMPLE_FREE) continue;
        if (!__atomic_compare_exchange_n(&samples[i].state, &free, SAMPLE_TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
        if (samples[i].context == context || (!samples[i].context && make_events(&samples[i], context))) return &samples[i];
        RELEASE_STORE(&samples[i].state, SAMPLE_FREE);
    }
    return 0;
}

struct vgpu_sample *vgpu_sample_begin(CUstream stream, bool per_thread) {
    CUcontext context;
    if (REAL(cuCtxGetCurrent)(&context) != CUDA_SUCCESS || !context || is_capturing(stream, per_thread)) return 0;
    struct vgpu_sample *sample = take_free(context);
    if (!sample || record(sample->before, stream, per_thread) == CUDA_SUCCESS) return sample;
    vgpu_sample_drop(sample);
    return 0;
}

void vgpu_sample_drop(struct vgpu_sample *sample) { RELEASE_STORE(&sample->state, SAMPLE_FREE); }

void vgpu_sample_end(struct vgpu_sample *sample, struct vgpu_device *device, struct vgpu_estimate *estimate,
                     int64_t paid_ns, CUstream stream, bool per_thread) {
    sample->device = device;
    sample->estimate = estimate;
    sample->paid_ns = paid_ns;
    CUresult result = record(sample->after, stream, per_thread);
    RELEASE_STORE(&sample->state, result == CUDA_SUCCESS ? SAMPLE_PENDING : SAMPLE_FREE);
}

/* Folds a span into the estimate and returns what the launch itself took, as far as can be told. */
static uint64_t learn(struct vgpu_estimate *estimate, uint64_t span) {
    uint64_t least = estimate->least_ns, mean = RELAXED_LOAD(&estimate->mean_ns);
    if (!least || span < least || estimate->samples % FORGET_LEAST_AFTER == 0) estimate->least_ns = least = span;
    uint32_t count = estimate->samples++;
    if (span > least + least / 2) span = mean ? mean : least; /* disturbed */
    else {
        uint64_t weight = count < 7 ? count + 1 : 8;
        uint64_t next = !mean || mean > least + least / 2 ? span : mean + (uint64_t)(((int64_t)span - (int64_t)mean) / (int64_t)weight);
        __atomic_store_n(&estimate->mean_ns, next ? next : 1, __ATOMIC_RELAXED);
    }
    return span;
}

static void finish(struct vgpu_sample *sample) {
    float milliseconds = 0;
    struct vgpu_estimate *estimate = sample->estimate;
    if (REAL(cuEventElapsedTime)(&milliseconds, sample->before, sample->after) == CUDA_SUCCESS && milliseconds >= 0) {
        uint64_t took = learn(estimate, (uint64_t)((double)milliseconds * 1e6) + 1);
        vgpu_compute_correct(sample->device, (int64_t)took - sample->paid_ns);
    }
    if (RELAXED_LOAD(&estimate->underway)) __atomic_store_n(&estimate->underway, 0, __ATOMIC_RELAXED);
    RELEASE_STORE(&sample->state, SAMPLE_FREE);
}

void vgpu_samples_collect(void) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint32_t pending = SAMPLE_PENDING;
        if (RELAXED_LOAD(&samples[i].state) != SAMPLE_PENDING) continue;
        if (!__atomic_compare_exchange_n(&samples[i].state, &pending, SAMPLE_TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
        if (REAL(cuEventQuery)(samples[i].after) == CUDA_ERROR_NOT_READY) RELEASE_STORE(&samples[i].state, SAMPLE_PENDING);
        else finish(&samples[i]);
    }
}

void vgpu_samples_end_context(CUcontext context) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint32_t state = RELAXED_LOAD(&samples[i].state);
        if (samples[i].context != context || state == SAMPLE_TAKEN) continue;
        if (!__atomic_compare_exchange_n(&samples[i].state, &state, SAMPLE_TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
        samples[i].context = 0; /* the events went with it */
        RELEASE_STORE(&samples[i].state, SAMPLE_FREE);
    }
}

void vgpu_estimates_forget(void) {
    memset(samples, 0, sizeof samples);
    memset(estimates, 0, sizeof estimates);
}
