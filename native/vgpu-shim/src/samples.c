/* A span between two events of a stream holds more than the launch when the card worked for somebody else in
 * between, or when the stream was empty and this thread was slow to fill it. A span is clean
 * - behind another launch that the same thread put on the process's only stream just before, and that was not
 *   done yet: nobody had the time to get in between; or
 * - when nobody else uses the card, and this process uses one stream, or should be done
 *   with all that it sent to others.
 * Nothing is asked of the driver while a stream is being captured: the answers would spoil the capture. */
#include "samples.h"

#include <string.h>

#include "capture.h"
#include "compute.h"
#include "watch.h"

#define SAMPLES 32u
#define AT_ONCE_NS 50000u
#define ONE_STREAM_AFTER_NS 1000000000u
#define BEHIND_AFTER_NS 100000000u
#define BEHIND_OTHERS_AFTER_NS 250000000u /* what is waited for is others' work as well */
#define PATIENCE_NS 1000000000u

enum sample_state { SAMPLE_FREE, SAMPLE_TAKEN, SAMPLE_PENDING };

struct vgpu_sample {
    uint32_t state;
    bool stream_was_busy, follows, rested, is_overlooked;
    CUcontext context; /* whose events these are; 0: none made yet */
    CUevent before, after;
    struct vgpu_device *device;
    struct vgpu_estimate *estimate;
    int64_t paid_ns;
    uint64_t begun_ns, sent_ns;
};

static struct vgpu_sample samples[SAMPLES];
static CUstream last_stream;
static uint64_t several_streams_ns; /* when a launch was last measured on another stream than the one before */

static CUresult record(CUevent event, CUstream stream, bool per_thread) {
    return per_thread ? REAL(cuEventRecord_ptsz)(event, stream) : REAL(cuEventRecord)(event, stream);
}

static bool make_events(struct vgpu_sample *sample, CUcontext context) {
    if (REAL(cuEventCreate)(&sample->before, CU_EVENT_DEFAULT) != CUDA_SUCCESS) return false;
    if (REAL(cuEventCreate)(&sample->after, CU_EVENT_DEFAULT) != CUDA_SUCCESS) {
        REAL(cuEventDestroy_v2)(sample->before);
        return false;
    }
    RELAXED_STORE(&sample->context, context);
    return true;
}

static struct vgpu_sample *take_free(CUcontext context) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint32_t free = SAMPLE_FREE;
        CUcontext owner = RELAXED_LOAD(&samples[i].context);
        if ((owner && owner != context) || RELAXED_LOAD(&samples[i].state) != SAMPLE_FREE) continue;
        if (!__atomic_compare_exchange_n(&samples[i].state, &free, SAMPLE_TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
        if (samples[i].context == context || make_events(&samples[i], context)) return &samples[i];
        RELEASE_STORE(&samples[i].state, SAMPLE_FREE);
        return 0;
    }
    return 0;
}

/* What can only be told now: whether the launch will follow the one before it without a gap. */
static void look_before(struct vgpu_sample *sample, CUstream stream) {
    struct vgpu_pass *pass = &vgpu_pass;
    sample->begun_ns = vgpu_now_ns();
    sample->stream_was_busy = REAL(cuEventQuery)(sample->before) == CUDA_ERROR_NOT_READY;
    sample->follows = sample->stream_was_busy && pass->measured_stream == stream && sample->begun_ns - pass->measured_ns < AT_ONCE_NS;
    sample->rested = pass->rested;
    RELAXED_STORE(&sample->is_overlooked, false);
    if (__atomic_exchange_n(&last_stream, stream, __ATOMIC_RELAXED) != stream && pass->measured_ns)
        __atomic_store_n(&several_streams_ns, sample->begun_ns, __ATOMIC_RELAXED);
}

struct vgpu_sample *vgpu_sample_begin(CUstream stream, bool per_thread) {
    CUcontext context;
    if (vgpu_captures() || vgpu_is_capturing(stream, per_thread)) return 0;
    if (REAL(cuCtxGetCurrent)(&context) != CUDA_SUCCESS || !context) return 0;
    struct vgpu_sample *sample = take_free(context);
    if (!sample) return 0;
    if (record(sample->before, stream, per_thread) == CUDA_SUCCESS) {
        look_before(sample, stream);
        return sample;
    }
    vgpu_sample_drop(sample);
    return 0;
}

void vgpu_sample_drop(struct vgpu_sample *sample) { RELEASE_STORE(&sample->state, SAMPLE_FREE); }

void vgpu_sample_end(struct vgpu_sample *sample, struct vgpu_device *device, struct vgpu_estimate *estimate,
                     int64_t paid_ns, CUstream stream, bool per_thread) {
    RELAXED_STORE(&sample->device, device);
    sample->estimate = estimate;
    RELAXED_STORE(&sample->paid_ns, paid_ns);
    CUresult result = record(sample->after, stream, per_thread);
    RELAXED_STORE(&sample->sent_ns, vgpu_now_ns());
    vgpu_pass.measured_ns = sample->sent_ns;
    vgpu_pass.measured_stream = stream;
    RELEASE_STORE(&sample->state, result == CUDA_SUCCESS ? SAMPLE_PENDING : SAMPLE_FREE);
}

static bool uses_one_stream(uint64_t now) {
    uint64_t since = RELAXED_LOAD(&several_streams_ns);
    return !since || now > since + ONE_STREAM_AFTER_NS;
}

bool vgpu_samples_want_rested(void) { return RELAXED_LOAD(&several_streams_ns) && !uses_one_stream(vgpu_now_ns()); }

static bool is_clean(const struct vgpu_sample *sample, uint64_t span) {
    bool one_stream = uses_one_stream(sample->sent_ns);
    if (sample->follows && one_stream) return true;
    if (vgpu_watch_company(sample->device) != VGPU_ALONE) return false;
    bool at_once = (sample->sent_ns - sample->begun_ns) * 8 < span;
    return one_stream ? sample->stream_was_busy || at_once : sample->rested && !sample->stream_was_busy && at_once;
}

static void finish(struct vgpu_sample *sample) {
    float milliseconds = 0;
    struct vgpu_estimate *estimate = sample->estimate;
    if (REAL(cuEventElapsedTime)(&milliseconds, sample->before, sample->after) == CUDA_SUCCESS && milliseconds >= 0) {
        uint64_t span = (uint64_t)((double)milliseconds * 1e6) + 1, usual = vgpu_estimate_usual(estimate);
        if (usual && !sample->follows && uses_one_stream(sample->sent_ns)) vgpu_watch_compare(sample->device, span, usual);
        uint64_t took = vgpu_estimate_learn(estimate, span, is_clean(sample, span), vgpu_watch_arrivals(sample->device));
        bool unknown = vgpu_watch_company(sample->device) == VGPU_COMPANY_UNKNOWN && !RELAXED_LOAD(&estimate->clean);
        if (unknown && uses_one_stream(sample->sent_ns)) took = span; /* rather too much */
        vgpu_compute_correct(sample->device, vgpu_watch_corrected(sample->device, took) - sample->paid_ns);
    }
    if (RELAXED_LOAD(&estimate->underway)) __atomic_store_n(&estimate->underway, 0, __ATOMIC_RELAXED);
    RELEASE_STORE(&sample->state, SAMPLE_FREE);
}

void vgpu_samples_collect(void) {
    if (vgpu_captures()) return;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint32_t pending = SAMPLE_PENDING;
        if (RELAXED_LOAD(&samples[i].state) != SAMPLE_PENDING) continue;
        if (!__atomic_compare_exchange_n(&samples[i].state, &pending, SAMPLE_TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
        if (REAL(cuEventQuery)(samples[i].after) == CUDA_ERROR_NOT_READY) RELEASE_STORE(&samples[i].state, SAMPLE_PENDING);
        else finish(&samples[i]);
    }
}

/* How long a launch may be under way beyond what it takes before more would only queue up. */
static uint64_t patience_for(const struct vgpu_device *device) {
    return vgpu_watch_company(device) == VGPU_IN_COMPANY ? BEHIND_OTHERS_AFTER_NS : BEHIND_AFTER_NS;
}

/* One that waits for something else than the card is overlooked after a while. */
static bool is_behind(struct vgpu_sample *sample, uint64_t now) {
    uint64_t sent = RELAXED_LOAD(&sample->sent_ns);
    int64_t paid = RELAXED_LOAD(&sample->paid_ns);
    if (RELAXED_LOAD(&sample->is_overlooked) || now < sent) return false;
    uint64_t age = now - sent, own = paid > 0 ? (uint64_t)paid : 0;
    RELAXED_STORE(&sample->is_overlooked, age > PATIENCE_NS + 2 * own);
    return age > patience_for(RELAXED_LOAD(&sample->device)) + 2 * own;
}

/* As far as can be told from beside: another thread may take its result in at any moment. */
static bool is_underway(const struct vgpu_sample *sample, const struct vgpu_device *device) {
    return ACQUIRE_LOAD(&sample->state) == SAMPLE_PENDING && RELAXED_LOAD(&sample->device) == device;
}

bool vgpu_samples_are_behind(const struct vgpu_device *device) {
    uint64_t now = vgpu_now_ns();
    for (uint32_t i = 0; i < SAMPLES; i++)
        if (is_underway(&samples[i], device) && is_behind(&samples[i], now)) return true;
    return false;
}

unsigned vgpu_samples_underway(const struct vgpu_device *device) {
    uint64_t now = vgpu_now_ns();
    unsigned count = 0;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        if (!is_underway(&samples[i], device)) continue;
        uint64_t patience = BEHIND_OTHERS_AFTER_NS + 2 * (uint64_t)RELAXED_LOAD(&samples[i].paid_ns);
        count += now < RELAXED_LOAD(&samples[i].sent_ns) + patience;
    }
    return count;
}

void vgpu_samples_end_context(CUcontext context) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint32_t state = RELAXED_LOAD(&samples[i].state);
        if (RELAXED_LOAD(&samples[i].context) != context || state == SAMPLE_TAKEN) continue;
        if (!__atomic_compare_exchange_n(&samples[i].state, &state, SAMPLE_TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
        RELAXED_STORE(&samples[i].context, (CUcontext)0); /* the events went with it */
        RELEASE_STORE(&samples[i].state, SAMPLE_FREE);
    }
}

void vgpu_samples_forget(void) {
    memset(samples, 0, sizeof samples);
    last_stream = 0;
    several_streams_ns = 0;
}
