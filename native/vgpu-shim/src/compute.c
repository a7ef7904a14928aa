/* Pays for launches. The common launch takes from a small advance that its thread holds and touches nothing
 * shared; the rest waits, asleep, for the share's budget. */
#include "compute.h"

#include <string.h>
#include <time.h>

#include "budget.h"

#define ADVANCE_NS 500000
#define SHORTEST_NAP_NS 50000u
#define LONGEST_NAP_NS 10000000u
#define BLIND_LAUNCHES 2u              /* in flight while a function's duration is not known */
#define BLIND_PATIENCE_NS 1000000000u  /* one that waits for a later launch must not wait for ever */
#define IDLE_BELOW 5u /* percent that others use: the card is idle but for us */
#define IDLE_EVERY_NS 200000000u

/* What a thread has paid already, for one card. */
static __thread struct {
    struct vgpu_device *device;
    int64_t ns;
} advance __attribute__((tls_model("initial-exec")));

/* Threads share few counters without locks: a lost count now and then is cheaper than a locked one always. */
static void count_launch(struct vgpu_device *device) {
    uint64_t *counter = &device->counters[((uintptr_t)&advance >> 12) % VGPU_COUNTERS].launches;
    __atomic_store_n(counter, RELAXED_LOAD(counter) + 1, __ATOMIC_RELAXED);
}

static void add_to_slot(struct vgpu_device *device, size_t offset, uint64_t value) {
    struct vgpu_usage_slot *slot = device->share_count ? vgpu_region_slot(&device->shares[0]) : 0;
    if (slot) __atomic_fetch_add((uint64_t *)(void *)((char *)slot + offset), value, __ATOMIC_RELAXED);
}

static void nap(struct vgpu_device *device, uint64_t ns) {
    uint64_t length = ns < SHORTEST_NAP_NS ? SHORTEST_NAP_NS : ns > LONGEST_NAP_NS ? LONGEST_NAP_NS : ns;
    struct timespec span = {0, (long)length};
    uint64_t since = vgpu_now_ns();
    clock_nanosleep(CLOCK_MONOTONIC, 0, &span, 0);
    add_to_slot(device, offsetof(struct vgpu_usage_slot, throttled_ns), vgpu_now_ns() - since);
}

static bool has_burst(const struct vgpu_device *device) {
    for (unsigned i = 0; i < device->share_count; i++)
        if (RELAXED_LOAD(&device->shares[i].limits->compute_policy) == VGPU_COMPUTE_BURST) return true;
    return false;
}

static bool may_burst(const struct vgpu_device *device) {
    return RELAXED_LOAD(&device->watched.is_idle) && has_burst(device);
}

/* Waits until `wanted` ns are ours. Limits and the gate are looked at again at every turn. */
static void draw(struct vgpu_device *device, int64_t wanted) {
    uint64_t wait;
    while (vgpu_budget_limit(device)) {
        vgpu_samples_collect();
        if (vgpu_budget_take(device, wanted, &wait)) break;
        if (may_burst(device)) {
            vgpu_budget_forgive(device);
            vgpu_budget_charge(device, wanted);
            break;
        }
        nap(device, wait);
    }
}

static void pay(struct vgpu_device *device, int64_t price) {
    if (advance.device != device) {
        if (advance.device) vgpu_budget_charge(advance.device, -advance.ns);
        advance.device = device;
        advance.ns = 0;
    }
    if (VGPU_UNLIKELY(advance.ns < price)) {
        int64_t wanted = price - advance.ns > ADVANCE_NS ? price - advance.ns : ADVANCE_NS;
        draw(device, wanted);
        advance.ns += wanted;
        add_to_slot(device, offsetof(struct vgpu_usage_slot, busy_ns), (uint64_t)wanted);
    }
    advance.ns -= price;
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

static void wait_at_gate(struct vgpu_device *device) {
    while (vgpu_budget_is_paused(device)) nap(device, LONGEST_NAP_NS);
}

static void begin_limited(struct vgpu_launch *launch, const void *work, uint64_t shape, CUstream stream, bool per_thread) {
    launch->estimate = vgpu_estimate_of(work, shape);
    if (VGPU_UNLIKELY(!RELAXED_LOAD(&launch->estimate->mean_ns))) wait_for_estimate(launch->device, launch->estimate);
    launch->paid_ns = (int64_t)RELAXED_LOAD(&launch->estimate->mean_ns);
    pay(launch->device, launch->paid_ns ? launch->paid_ns : 1);
    if (vgpu_estimate_wants_sample(launch->estimate)) launch->sample = vgpu_sample_begin(stream, per_thread);
}

bool vgpu_compute_begin(struct vgpu_launch *launch, const void *work, uint64_t shape, CUstream stream, bool per_thread) {
    struct vgpu_device *device = vgpu_card_of_current_context();
    launch->device = 0;
    launch->sample = 0;
    if (!device) return true;
    if (VGPU_UNLIKELY(device->refuses)) return false;
    if (VGPU_UNLIKELY(vgpu_budget_is_paused(device))) wait_at_gate(device);
    count_launch(device);
    if (!vgpu_budget_limit(device)) return true;
    launch->device = device;
    begin_limited(launch, work, shape, stream, per_thread);
    return true;
}

void vgpu_compute_end(struct vgpu_launch *launch, CUresult result, CUstream stream, bool per_thread) {
    if (!launch->device) return;
    if (VGPU_UNLIKELY(result != CUDA_SUCCESS)) {
        advance.ns += launch->paid_ns;
        if (launch->sample) vgpu_sample_drop(launch->sample);
        if (!launch->paid_ns) __atomic_store_n(&launch->estimate->underway, 0, __ATOMIC_RELAXED);
        return;
    }
    if (launch->sample)
        vgpu_sample_end(launch->sample, launch->device, launch->estimate, launch->paid_ns, stream, per_thread);
}

void vgpu_compute_correct(struct vgpu_device *device, int64_t difference_ns) {
    vgpu_budget_charge(device, difference_ns);
    add_to_slot(device, offsetof(struct vgpu_usage_slot, busy_ns), (uint64_t)difference_ns);
}

static void publish_launches(struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < VGPU_COUNTERS; i++) sum += RELAXED_LOAD(&device->counters[i].launches);
    if (sum == device->watched.published_launches || !device->share_count) return;
    struct vgpu_usage_slot *slot = vgpu_region_slot(&device->shares[0]);
    if (!slot) return;
    __atomic_fetch_add(&slot->launches, sum - device->watched.published_launches, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->last_launch_ns, vgpu_now_ns(), __ATOMIC_RELAXED);
    device->watched.published_launches = sum;
}

static uint64_t busy_of_share(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++) {
        sum += RELAXED_LOAD(&device->shares[i].usage->ended_busy_ns);
        for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++) {
            const struct vgpu_usage_slot *slot = &device->shares[i].usage->slots[n];
            if (ACQUIRE_LOAD(&slot->state) != VGPU_SLOT_FREE) sum += RELAXED_LOAD(&slot->busy_ns);
        }
    }
    return sum;
}

/* Others' use is what NVML says of the card, less what this share has used in the same time. */
static void watch_idle(struct vgpu_device *device) {
    unsigned percent;
    uint64_t now = vgpu_now_ns(), since = device->watched.asked_ns;
    if (now - since < IDLE_EVERY_NS || !vgpu_card_utilisation(device, &percent)) return;
    uint64_t busy = busy_of_share(device), own = (busy - device->watched.share_busy_ns) * 100 / (now - since);
    uint32_t idle = since && percent < own + IDLE_BELOW;
    device->watched.asked_ns = now;
    device->watched.share_busy_ns = busy;
    __atomic_store_n(&device->watched.is_idle, idle, __ATOMIC_RELAXED);
}

void vgpu_compute_observe(struct vgpu_device *device) {
    publish_launches(device);
    vgpu_samples_collect();
    if (has_burst(device)) watch_idle(device);
}

void vgpu_compute_end_context(CUcontext context) { vgpu_samples_end_context(context); }

void vgpu_compute_forget(void) {
    unsigned count;
    struct vgpu_device *devices = vgpu_all_devices(&count);
    for (unsigned i = 0; i < count; i++) {
        memset(devices[i].counters, 0, sizeof devices[i].counters);
        memset(&devices[i].watched, 0, sizeof devices[i].watched);
    }
    advance.device = 0;
    advance.ns = 0;
    vgpu_estimates_forget();
}

/* A process that ends in order leaves its last counts. */
__attribute__((destructor)) static void publish_last_counts(void) {
    unsigned count;
    struct vgpu_device *devices = vgpu_all_devices(&count);
    for (unsigned i = 0; i < count; i++) publish_launches(&devices[i]);
}
