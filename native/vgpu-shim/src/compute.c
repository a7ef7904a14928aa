/* Pays for launches that cannot pass by themselves (pass.h): they wait, asleep, for the share's budget, and
 * every so often one of them is measured. */
#include "compute.h"

#include <string.h>
#include <time.h>

#include "background.h"
#include "budget.h"
#include "capture.h"
#include "watch.h"

#define ADVANCE_NS 500000
#define SHORTEST_NAP_NS 50000u
#define LONGEST_NAP_NS 10000000u
#define BLIND_LAUNCHES 2u             /* in flight while a function's duration is not known */
#define BLIND_PATIENCE_NS 1000000000u /* one that waits for a later launch must not wait for ever */

__thread struct vgpu_pass vgpu_pass __attribute__((tls_model("initial-exec"), visibility("hidden")));
uint64_t vgpu_epoch = 1;

static uint64_t uncounted; /* launches on cards of which there is no share */
static uint32_t next_counter;
static int visible_cards; /* 0: not asked yet */

static void nap(struct vgpu_device *device, uint64_t ns) {
    uint64_t length = ns < SHORTEST_NAP_NS ? SHORTEST_NAP_NS : ns > LONGEST_NAP_NS ? LONGEST_NAP_NS : ns;
    struct timespec span = {0, (long)length};
    uint64_t since = vgpu_now_ns();
    clock_nanosleep(CLOCK_MONOTONIC, 0, &span, 0);
    vgpu_watch_add(device, offsetof(struct vgpu_usage_slot, throttled_ns), vgpu_now_ns() - since);
}

/* Waits until `wanted` ns are ours. Limits and the gate are looked at again at every turn. */
static void draw(struct vgpu_device *device, int64_t wanted) {
    uint64_t wait = SHORTEST_NAP_NS;
    while (vgpu_budget_limit(device)) {
        vgpu_samples_collect();
        if (!vgpu_samples_are_behind(device) && vgpu_budget_take(device, wanted, &wait)) break;
        nap(device, wait);
    }
}

/* Takes note of `wanted` ns of work from now on; true if what went out before should be done by now. */
static bool note_work(struct vgpu_device *device, uint64_t wanted) {
    uint64_t now = vgpu_now_ns(), done = RELAXED_LOAD(&device->watched.done_ns), next;
    do next = (done > now ? done : now) + wanted;
    while (!__atomic_compare_exchange_n(&device->watched.done_ns, &done, next, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return done <= now;
}

/* What the thread holds is good for one card: it goes back when the thread turns to another. */
static void turn_to(struct vgpu_pass *pass, struct vgpu_device *device) {
    if (pass->launches && pass->device == device) return;
    if (pass->device) vgpu_budget_charge(pass->device, -pass->advance_ns);
    unsigned counter = __atomic_fetch_add(&next_counter, 1, __ATOMIC_RELAXED) % VGPU_COUNTERS;
    pass->device = device;
    pass->advance_ns = 0;
    pass->launches = device ? &device->counters[counter].launches : &uncounted;
}

static void pay(struct vgpu_device *device, int64_t price) {
    struct vgpu_pass *pass = &vgpu_pass;
    if (pass->advance_ns < price) {
        int64_t wanted = price - pass->advance_ns > ADVANCE_NS ? price - pass->advance_ns : ADVANCE_NS;
        draw(device, wanted);
        pass->rested = note_work(device, (uint64_t)wanted);
        pass->advance_ns += wanted;
        vgpu_watch_add(device, offsetof(struct vgpu_usage_slot, busy_ns), (uint64_t)wanted);
    }
    pass->advance_ns -= price;
}

/* Nothing is known yet: let few launches out until one has been measured, so that no queue builds up. */
static void wait_for_estimate(struct vgpu_device *device, struct vgpu_estimate *estimate) {
    uint64_t since = vgpu_now_ns(), pause = SHORTEST_NAP_NS;
    while (!RELAXED_LOAD(&estimate->mean_ns) && RELAXED_LOAD(&estimate->underway) >= BLIND_LAUNCHES) {
        vgpu_samples_collect();
        if (RELAXED_LOAD(&estimate->mean_ns) || vgpu_now_ns() - since > BLIND_PATIENCE_NS) break;
        nap(device, pause);
        if (pause < LONGEST_NAP_NS / 10) pause *= 2;
    }
    if (!RELAXED_LOAD(&estimate->mean_ns)) __atomic_fetch_add(&estimate->underway, 1, __ATOMIC_RELAXED);
}

/* A line that ran out is the turn of a measurement; one that was pushed out by others is not. */
static bool enter_line(struct vgpu_launch *launch, const void *work, const struct vgpu_shape *shape, int64_t price) {
    struct vgpu_pass_line *line = vgpu_pass_line(&vgpu_pass, work, shape);
    bool known = line->work == work && vgpu_same_shape(&line->shape, shape);
    bool due = vgpu_estimate_wants_sample(launch->estimate, known && line->left <= 0);
    if (due || !known) line->left = due ? vgpu_estimate_until_next(launch->estimate) : 0;
    line->work = work;
    line->shape = *shape;
    line->price_ns = price;
    return due;
}

static void begin_limited(struct vgpu_launch *launch, const void *work, const struct vgpu_shape *shape) {
    launch->estimate = vgpu_estimate_of(work, shape);
    if (VGPU_UNLIKELY(!RELAXED_LOAD(&launch->estimate->mean_ns))) wait_for_estimate(launch->device, launch->estimate);
    launch->paid_ns = vgpu_watch_corrected(launch->device, RELAXED_LOAD(&launch->estimate->mean_ns));
    vgpu_pass.rested = false;
    pay(launch->device, launch->paid_ns ? launch->paid_ns : 1);
    bool due = !launch->paid_ns || enter_line(launch, work, shape, launch->paid_ns);
    if (due || (vgpu_pass.rested && vgpu_samples_want_rested()))
        launch->sample = vgpu_sample_begin(launch->stream, launch->per_thread);
}

static void wait_at_gate(struct vgpu_device *device) {
    while (vgpu_budget_is_paused(device)) nap(device, LONGEST_NAP_NS);
}

/* Where one card only can be seen, no launch has to ask whose it is. */
static bool sees_one_card(void) {
    int count = RELAXED_LOAD(&visible_cards);
    if (count == 0 && REAL(cuDeviceGetCount)(&count) == CUDA_SUCCESS) __atomic_store_n(&visible_cards, count, __ATOMIC_RELAXED);
    return count == 1;
}

static void issue(struct vgpu_pass *pass, const struct vgpu_device *device, uint64_t epoch) {
    if (!sees_one_card() || vgpu_captures() || (device && !vgpu_background_runs())) return;
    if (device && vgpu_budget_limit(device)) pass->paid_epoch = epoch;
    else pass->free_epoch = epoch;
}

bool vgpu_compute_begin(struct vgpu_launch *launch, const void *work, struct vgpu_shape shape, CUstream stream,
                        bool per_thread) {
    uint64_t epoch = ACQUIRE_LOAD(&vgpu_epoch); /* before limits are looked at: what changes later ends the pass */
    struct vgpu_device *device = sees_one_card() ? vgpu_card_of_ordinal(0) : vgpu_card_of_current_context();
    memset(launch, 0, sizeof *launch);
    launch->stream = stream;
    launch->per_thread = per_thread;
    turn_to(&vgpu_pass, device);
    if (device && VGPU_UNLIKELY(device->refuses)) return false;
    if (VGPU_UNLIKELY(vgpu_captures() && vgpu_is_capturing(stream, per_thread))) return true; /* runs as a graph, later */
    if (device && device->share_count && !vgpu_background_runs()) vgpu_background_start();
    if (device && VGPU_UNLIKELY(vgpu_budget_is_paused(device))) wait_at_gate(device);
    issue(&vgpu_pass, device, epoch);
    if (device && vgpu_budget_limit(device)) {
        launch->device = device;
        bool asked = sees_one_card() || !vgpu_pass_pay(&vgpu_pass, work, shape);
        if (!asked) launch->device = 0;
        else begin_limited(launch, work, &shape);
        if (!asked) return true;
    }
    vgpu_pass_count(&vgpu_pass);
    return true;
}

void vgpu_compute_end(struct vgpu_launch *launch, CUresult result) {
    if (!launch->device) return;
    if (VGPU_UNLIKELY(result != CUDA_SUCCESS)) {
        vgpu_pass.advance_ns += launch->paid_ns;
        if (launch->sample) vgpu_sample_drop(launch->sample);
        if (!launch->paid_ns) __atomic_store_n(&launch->estimate->underway, 0, __ATOMIC_RELAXED);
        return;
    }
    if (launch->sample)
        vgpu_sample_end(launch->sample, launch->device, launch->estimate, launch->paid_ns, launch->stream, launch->per_thread);
}

void vgpu_compute_correct(struct vgpu_device *device, int64_t difference_ns) {
    vgpu_budget_charge(device, difference_ns);
    vgpu_watch_add(device, offsetof(struct vgpu_usage_slot, busy_ns), (uint64_t)difference_ns);
}

void vgpu_compute_end_context(CUcontext context) { vgpu_samples_end_context(context); }

void vgpu_compute_forget(void) {
    vgpu_watch_forget();
    memset(&vgpu_pass, 0, sizeof vgpu_pass);
    visible_cards = 0;
    vgpu_capture_forget();
    vgpu_estimates_forget();
    vgpu_samples_forget();
}
