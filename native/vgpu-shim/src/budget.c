/* A token bucket in the accounting region: one atomic number of nanoseconds, and up to when it was filled.
 *
 * It may be overdrawn by one launch, so that a kernel longer than any budget runs at all, and then waits for
 * as long as its share takes to pay for it. What is not used is kept for WINDOW_NS only: no long run after a
 * long rest, but a thread that wakes late loses nothing. */
#include "budget.h"

#include "watch.h"

#define WINDOW_NS 20000000ll
#define FILL_STEP_NS 20000u
#define LONGEST_GAP_NS 1000000000u
#define LARGEST_DEBT_NS 3600000000000ll /* of device time: no launch owes more, so whoever finds more does not believe it */

uint32_t vgpu_budget_limit(const struct vgpu_device *device) {
    uint32_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++) {
        uint32_t cores = vgpu_region_cores_limit(&device->shares[i]);
        if (!cores) return 0;
        sum += cores;
    }
    return sum >= 100 ? 0 : sum;
}

static bool bursts(const struct vgpu_region *region) {
    return RELAXED_LOAD(&region->limits->compute_policy) == VGPU_COMPUTE_BURST;
}

bool vgpu_budget_may_burst(const struct vgpu_device *device) {
    for (unsigned i = 0; i < device->share_count; i++)
        if (bursts(&device->shares[i])) return true;
    return false;
}

bool vgpu_budget_has_priority(const struct vgpu_device *device) {
    for (unsigned i = 0; i < device->share_count; i++)
        if (bursts(&device->shares[i]) && RELAXED_LOAD(&device->shares[i].limits->priority) == VGPU_PRIORITY_HIGH) return true;
    return false;
}

bool vgpu_budget_is_paused(const struct vgpu_device *device) {
    for (unsigned i = 0; i < device->share_count; i++)
        if (vgpu_region_is_paused(&device->shares[i])) return true;
    return false;
}

static void fill(struct vgpu_region *region, uint32_t cores) {
    struct vgpu_usage *usage = region->usage;
    uint64_t now = vgpu_now_ns(), filled = RELAXED_LOAD(&usage->budget_filled_ns);
    if (filled <= now && now - filled < FILL_STEP_NS) return;
    if (!__atomic_compare_exchange_n(&usage->budget_filled_ns, &filled, now, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return;
    uint64_t elapsed = filled <= now && filled ? now - filled : 0;
    if (elapsed > LONGEST_GAP_NS) elapsed = LONGEST_GAP_NS;
    int64_t most = WINDOW_NS * cores / 100;
    int64_t budget = __atomic_add_fetch(&usage->budget_ns, (int64_t)(elapsed * cores / 100), __ATOMIC_ACQ_REL);
    if (budget > most) __atomic_fetch_sub(&usage->budget_ns, budget - most, __ATOMIC_ACQ_REL);
}

/* The budget as it is, or none at all where somebody has spoilt it: nobody shall wait for years. */
static int64_t believed(struct vgpu_usage *usage) {
    int64_t budget = RELAXED_LOAD(&usage->budget_ns);
    if (VGPU_LIKELY(budget >= -LARGEST_DEBT_NS)) return budget;
    __atomic_compare_exchange_n(&usage->budget_ns, &budget, 0, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    return 0;
}

/* What idle time adds goes to the first share that may have it. */
static uint32_t beyond_limit(const struct vgpu_device *device) {
    uint32_t ceiling = vgpu_watch_ceiling(device), limit = vgpu_budget_limit(device);
    return ceiling > limit ? ceiling - limit : 0;
}

static struct vgpu_region *richest(struct vgpu_device *device, uint32_t *rate) {
    struct vgpu_region *best = 0;
    uint32_t extra = beyond_limit(device);
    for (unsigned i = 0; i < device->share_count; i++) {
        struct vgpu_region *region = &device->shares[i];
        uint32_t cores = vgpu_region_cores_limit(region);
        if (extra && bursts(region)) {
            cores += extra;
            extra = 0;
        }
        if (cores) fill(region, cores);
        if (best && RELAXED_LOAD(&region->usage->budget_ns) <= RELAXED_LOAD(&best->usage->budget_ns)) continue;
        best = region;
        *rate = cores;
    }
    return best;
}

bool vgpu_budget_take(struct vgpu_device *device, int64_t wanted, uint64_t *wait_ns) {
    uint32_t rate = 0;
    struct vgpu_region *region = richest(device, &rate);
    int64_t budget = believed(region->usage);
    while (budget > 0)
        if (__atomic_compare_exchange_n(&region->usage->budget_ns, &budget, budget - wanted, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return true;
    *wait_ns = rate ? (uint64_t)(1 - budget) * 100 / rate : 0;
    return false;
}

void vgpu_budget_charge(struct vgpu_device *device, int64_t ns) {
    uint32_t rate;
    if (ns && vgpu_budget_limit(device)) __atomic_fetch_sub(&richest(device, &rate)->usage->budget_ns, ns, __ATOMIC_ACQ_REL);
}
