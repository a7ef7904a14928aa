/* Pays for launches that cannot pass by themselves (pass.h): they wait, asleep, for the share's budget, and
 * every so often one of them is measured. */
#include "compute.h"

#include <string.h>
#include <time.h>

#include "background.h"
#include "budget.h"
#include "capture.h"
#include "watch.h"

#define ADVANCE_NS 500000 /* of device time, that a thread pays for at once */
#define CREDIT_NS (ADVANCE_NS / 4) /* of it at most for one piece of work: what others need would be paid anew */
#define QUEUED_SAMPLES 4u /* that an uncapped process may have on the card beside others: some milliseconds of work */
#define SHORTEST_NAP_NS 50000u
#define LONGEST_NAP_NS 10000000u
#define BLIND_LAUNCHES 2u             /* in flight while a function's duration is not known */
#define BLIND_DEPOSIT_NS 2000000      /* for one of them, so that the share's processes do not all send some at once */
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

/* Whether launches have to ask: they are paid for, or at least the card's queue is to be kept short. */
static bool is_held(const struct vgpu_device *device) { return vgpu_budget_limit(device) || vgpu_watch_is_crowded(device); }

/* Waits until `wanted` ns are ours. Limits and the gate are looked at again at every turn. */
static void draw(struct vgpu_device *device, int64_t wanted) {
    uint64_t wait = SHORTEST_NAP_NS;
    while (is_held(device)) {
        vgpu_samples_collect();
        if (!vgpu_budget_limit(device) && vgpu_samples_underway(device) < QUEUED_SAMPLES) break;
        if (vgpu_budget_limit(device) && !vgpu_samples_are_behind(device) && vgpu_budget_take(device, wanted, &wait)) break;
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

/* What nothing caps is not paid for: it would be counted only now and then. */
static void note_busy(struct vgpu_device *device, int64_t ns) {
    if (vgpu_budget_limit(device)) vgpu_watch_add(device, offsetof(struct vgpu_usage_slot, busy_ns), (uint64_t)ns);
}

/* Pays `price` and has `more` at hand for what follows. */
static void pay(struct vgpu_device *device, int64_t price, int64_t more) {
    struct vgpu_pass *pass = &vgpu_pass;
    if (pass->advance_ns < price + more) {
        int64_t missing = price + more - pass->advance_ns, wanted = missing > ADVANCE_NS ? missing : ADVANCE_NS;
        draw(device, wanted);
        pass->rested = note_work(device, (uint64_t)wanted);
        pass->advance_ns += wanted;
        note_busy(device, wanted);
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

/* What a line has been paid for and will not use. */
static void give_back_credit(struct vgpu_pass_line *line) {
    int64_t unused = line->credit * line->price_ns;
    if (!unused) return;
    if (line->device == vgpu_pass.device) vgpu_pass.advance_ns += unused;
    else vgpu_budget_charge(line->device, -unused);
    line->credit = 0;
}

/* As many launches more as the advance pays for, and as may go out before one is to be measured. */
static void give_credit(struct vgpu_pass_line *line, int64_t price) {
    int64_t affordable = (vgpu_pass.advance_ns < CREDIT_NS ? vgpu_pass.advance_ns : CREDIT_NS) / price;
    int64_t credit = affordable < line->until ? affordable : line->until;
    if (credit <= 0) return;
    line->credit = credit;
    line->price_ns = price;
    line->until -= credit;
    vgpu_pass.advance_ns -= credit * price;
}

/* Pays for a launch and for some more of its kind; true if it is to be measured. A line that came to its turn is,
 * one that was pushed out by others is not. */
static bool pay_by_line(struct vgpu_launch *launch, const void *work, struct vgpu_shape shape) {
    struct vgpu_pass_line *line = vgpu_pass_line(&vgpu_pass, work, shape);
    bool known = vgpu_same_work(line, work, shape) && line->device == launch->device, is_turn = known && line->until <= 0;
    bool alone = vgpu_watch_company(launch->device) == VGPU_ALONE;
    bool pair = !alone && !vgpu_samples_want_rested() && vgpu_estimate_wants_pair(launch->estimate, is_turn);
    give_back_credit(line);
    pay(launch->device, launch->paid_ns, pair ? launch->paid_ns : 0);
    bool due = vgpu_estimate_wants_sample(launch->estimate, is_turn);
    if (due) line->until = vgpu_estimate_until_next(launch->estimate);
    else line->until = known ? line->until - 1 : 0;
    line->work = work;
    line->shape = shape;
    line->device = launch->device;
    give_credit(line, launch->paid_ns);
    return due;
}

/* Where a launch has to ask though it is paid for: with several cards in view, or after something has changed. */
static bool is_paid(struct vgpu_device *device, const void *work, struct vgpu_shape shape) {
    struct vgpu_pass_line *line = vgpu_pass_line(&vgpu_pass, work, shape);
    bool paid = vgpu_same_work(line, work, shape) && line->device == device && line->credit > 0;
    line->credit -= paid;
    return paid;
}

/* It cannot be measured, so nobody will ever know. */
static void take_back_deposit(struct vgpu_launch *launch) {
    vgpu_pass.advance_ns += launch->paid_ns;
    launch->paid_ns = 0;
}

static void begin_limited(struct vgpu_launch *launch, const void *work, struct vgpu_shape shape) {
    launch->estimate = vgpu_estimate_of(work, &shape);
    if (VGPU_UNLIKELY(!RELAXED_LOAD(&launch->estimate->mean_ns))) wait_for_estimate(launch->device, launch->estimate);
    uint64_t mean = RELAXED_LOAD(&launch->estimate->mean_ns);
    launch->is_blind = mean == 0;
    launch->paid_ns = launch->is_blind ? BLIND_DEPOSIT_NS : vgpu_watch_corrected(launch->device, mean);
    vgpu_pass.rested = false;
    if (launch->is_blind) pay(launch->device, launch->paid_ns, 0);
    bool due = launch->is_blind || pay_by_line(launch, work, shape);
    if (due || (vgpu_pass.rested && vgpu_samples_want_rested()))
        launch->sample = vgpu_sample_begin(launch->stream, launch->per_thread);
    if (launch->is_blind && !launch->sample) take_back_deposit(launch);
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
    if (device && is_held(device)) pass->paid_epoch = epoch;
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
    if (device && is_held(device) && !is_paid(device, work, shape)) {
        launch->device = device;
        begin_limited(launch, work, shape);
    }
    vgpu_pass_count(&vgpu_pass);
    return true;
}

void vgpu_compute_end(struct vgpu_launch *launch, CUresult result) {
    if (!launch->device) return;
    if (VGPU_UNLIKELY(result != CUDA_SUCCESS)) {
        vgpu_pass.advance_ns += launch->paid_ns;
        if (launch->sample) vgpu_sample_drop(launch->sample);
        if (launch->is_blind) __atomic_store_n(&launch->estimate->underway, 0, __ATOMIC_RELAXED);
        return;
    }
    if (launch->sample)
        vgpu_sample_end(launch->sample, launch->device, launch->estimate, launch->paid_ns, launch->stream, launch->per_thread);
}

void vgpu_compute_correct(struct vgpu_device *device, int64_t difference_ns) {
    vgpu_budget_charge(device, difference_ns);
    note_busy(device, difference_ns);
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
