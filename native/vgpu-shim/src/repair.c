/* Charges of dead processes go back to the share.
 *
 * A slot that is claimed and whose lock byte can be had is dead. Its counters join the sums of ended
 * processes, it is cleared, and the total is counted anew from the slots: exact even when the dead process
 * stopped halfway through a change, and when a repairer dies halfway through a repair. */
#include <string.h>
#include <time.h>

#include "accounting.h"

#define DRAIN_PATIENCE_NS 100000000u
#define DRAIN_NAP_NS 20000

static unsigned number_of(const struct vgpu_region *region) { return (unsigned)(region->slot - region->usage->slots); }

/* True, with the lock byte held, if the slot's process is dead. */
static bool lock_if_dead(struct vgpu_region *region, unsigned number) {
    struct vgpu_usage_slot *slot = &region->usage->slots[number];
    if (slot == region->slot || ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE) return false;
    if (!vgpu_slot_lock(region->lock_file, number, true)) return false;
    if (ACQUIRE_LOAD(&slot->state) != VGPU_SLOT_FREE) return true;
    vgpu_slot_lock(region->lock_file, number, false);
    return false;
}

static void clear_dead(struct vgpu_region *region, unsigned number) {
    struct vgpu_usage *usage = region->usage;
    struct vgpu_usage_slot *slot = &usage->slots[number];
    __atomic_fetch_add(&usage->ended_busy_ns, slot->busy_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&usage->ended_throttled_ns, slot->throttled_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&usage->ended_launches, slot->launches, __ATOMIC_RELAXED);
    __atomic_fetch_add(&usage->ended_refused, slot->refused, __ATOMIC_RELAXED);
    __atomic_fetch_add(&usage->ended_refused_bytes, slot->refused_bytes, __ATOMIC_RELAXED);
    vgpu_log(VGPU_LOG_INFO, "process %d has died with %llu bytes charged: given back", slot->pid,
             (unsigned long long)slot->charged_bytes);
    RELEASE_STORE(&usage->recount_stale, 1);
    memset((char *)slot + sizeof slot->state, 0, sizeof *slot - sizeof slot->state);
    RELEASE_STORE(&slot->state, VGPU_SLOT_FREE);
    vgpu_slot_lock(region->lock_file, number, false);
}

static unsigned clear_all_dead(struct vgpu_region *region) {
    unsigned cleared = 0;
    for (unsigned number = 0; number < VGPU_USAGE_SLOTS; number++)
        if (lock_if_dead(region, number)) {
            clear_dead(region, number);
            cleared++;
        }
    return cleared;
}

static bool any_dead(struct vgpu_region *region) {
    for (unsigned number = 0; number < VGPU_USAGE_SLOTS; number++)
        if (lock_if_dead(region, number)) {
            vgpu_slot_lock(region->lock_file, number, false);
            return true;
        }
    return false;
}

/* No change of the total under way in any slot. */
static bool is_quiet(const struct vgpu_usage *usage) {
    for (unsigned number = 0; number < VGPU_USAGE_SLOTS; number++) {
        struct vgpu_usage_slot *slot = (struct vgpu_usage_slot *)&usage->slots[number];
        if (ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE) continue;
        if (__atomic_load_n(&slot->operations, __ATOMIC_SEQ_CST)) return false;
    }
    return true;
}

static uint64_t sum_of_slots(const struct vgpu_usage *usage) {
    uint64_t sum = 0;
    for (unsigned number = 0; number < VGPU_USAGE_SLOTS; number++)
        if (ACQUIRE_LOAD(&usage->slots[number].state) != VGPU_SLOT_FREE)
            sum += RELAXED_LOAD(&usage->slots[number].charged_bytes);
    return sum;
}

/* Waits until all changes have ended; processes that die meanwhile are cleared. False: one is stopped. */
static bool drain(struct vgpu_region *region, unsigned *cleared) {
    struct timespec nap = {0, DRAIN_NAP_NS};
    uint64_t since = vgpu_now_ns();
    while (!is_quiet(region->usage)) {
        if (vgpu_now_ns() - since > DRAIN_PATIENCE_NS) return false;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
        *cleared += clear_all_dead(region);
    }
    return true;
}

/* With the recount ours: the total becomes the slots' sum. False: a process is stopped amid a change. */
static bool recount(struct vgpu_region *region) {
    struct vgpu_usage *usage = region->usage;
    unsigned cleared = clear_all_dead(region);
    if (!drain(region, &cleared)) return false;
    uint64_t before = RELAXED_LOAD(&usage->charged_bytes), sum = sum_of_slots(usage);
    bool counted = is_quiet(usage) && __atomic_compare_exchange_n(&usage->charged_bytes, &before, sum, 0,
                                                                  __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    if (counted) RELEASE_STORE(&usage->recount_stale, 0);
    return counted;
}

/* The recount is ours if nobody has it, or if who had it died. */
static bool own_recount(struct vgpu_region *region) {
    uint32_t *owner = &region->usage->recount_owner, seen = ACQUIRE_LOAD(owner), me = number_of(region) + 1;
    if (seen == me) return true; /* ours from before, given up halfway: region->lock says that no thread is at it */
    if (seen && seen <= VGPU_USAGE_SLOTS) {
        struct vgpu_usage_slot *slot = &region->usage->slots[seen - 1];
        bool dead = ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE || lock_if_dead(region, seen - 1);
        if (!dead) return false;
        if (ACQUIRE_LOAD(&slot->state) != VGPU_SLOT_FREE) vgpu_slot_lock(region->lock_file, seen - 1, false);
    }
    return __atomic_compare_exchange_n(owner, &seen, me, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

bool vgpu_repair_locked(struct vgpu_region *region) {
    uint32_t *owner = &region->usage->recount_owner;
    if (!region->slot || region->lock_file < 0) return clear_all_dead(region) > 0;
    if (!ACQUIRE_LOAD(owner) && !ACQUIRE_LOAD(&region->usage->recount_stale) && !any_dead(region)) return false;
    if (!own_recount(region)) return false;
    bool repaired = recount(region);
    __atomic_store_n(owner, 0, __ATOMIC_SEQ_CST);
    return repaired;
}

void vgpu_region_repair(struct vgpu_region *region) {
    if (!ACQUIRE_LOAD(&region->slot)) return;
    vgpu_lock(&region->lock);
    vgpu_repair_locked(region);
    vgpu_unlock(&region->lock);
}
