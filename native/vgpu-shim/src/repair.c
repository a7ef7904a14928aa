/* Charges of dead processes go back to the share.
 *
 * A slot that is claimed and whose lock byte can be had is dead. Its counters join the sums of ended
 * processes. If it died between two changes, its charge is exact and is taken off the total; if it died amid
 * one, or somebody died amid a repair, a mark says so, and the total is counted anew from the slots while no
 * change begins. Whoever is killed here, at any instruction, leaves a mark for the next. */
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "accounting.h"

#define DRAIN_PATIENCE_NS 100000000u
#define DRAIN_NAP_NS 20000
#define MARKS_ARRIVE_NS 1000000 /* what a processor has stored is seen by the others long before that */
#define RECOUNT_AGAIN_NS 2000000000u /* after one in vain: a process is stopped amid a change */

bool (*vgpu_region_lingers)(const struct vgpu_usage_slot *dead);

static uint32_t recounter(const struct vgpu_region *region) {
    return (uint32_t)(region->slot - region->usage->slots) + 1;
}

/* True, with the lock byte held, if the slot's process is dead. */
static bool lock_if_dead(const struct vgpu_region *region, unsigned number) {
    struct vgpu_usage_slot *slot = &region->usage->slots[number];
    if (slot == region->slot || ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE) return false;
    if (!vgpu_slot_lock(region->repair_file, number, true)) return false;
    if (ACQUIRE_LOAD(&slot->state) != VGPU_SLOT_FREE && vgpu_usage_is(region, region->repair_file)) return true;
    vgpu_slot_lock(region->repair_file, number, false);
    return false;
}

static void join_ended(uint64_t *ended, uint64_t *figure) {
    __atomic_fetch_add(ended, __atomic_exchange_n(figure, 0, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

/* Takes the dead process's charge off the total. False: it is not known whether the total holds it. */
static bool take_off(struct vgpu_region *region, struct vgpu_usage_slot *slot) {
    if (!region->slot || ACQUIRE_LOAD(&slot->operations) || !vgpu_change_begin(region)) return false;
    bool exact = !__atomic_load_n(&region->usage->recount_stale, __ATOMIC_SEQ_CST);
    if (exact) {
        __atomic_store_n(&slot->operations, 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_sub(&region->usage->charged_bytes, slot->charged_bytes, __ATOMIC_SEQ_CST);
        __atomic_store_n(&slot->charged_bytes, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&slot->operations, 0, __ATOMIC_SEQ_CST);
    }
    vgpu_change_end(region);
    return exact;
}

/* The driver still holds what the dead process had, so its charge stays; but nothing is under way there any more. */
static void settle_dead(struct vgpu_usage *usage, struct vgpu_usage_slot *slot) {
    if (!ACQUIRE_LOAD(&slot->operations)) return;
    __atomic_store_n(&usage->recount_stale, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->operations, 0, __ATOMIC_SEQ_CST);
}

/* A recount that the dead process was at is to be done by another. */
static void end_recount_of(struct vgpu_usage *usage, uint32_t owner) {
    if (ACQUIRE_LOAD(&usage->recount_owner) != owner) return;
    RELEASE_STORE(&usage->recount_stale, 1);
    __atomic_compare_exchange_n(&usage->recount_owner, &owner, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* With the slot's lock byte held. */
static void clear_dead(struct vgpu_region *region, unsigned number) {
    struct vgpu_usage *usage = region->usage;
    struct vgpu_usage_slot *slot = &usage->slots[number];
    vgpu_log(VGPU_LOG_INFO, "process %d has died with %llu bytes charged: given back", slot->pid,
             (unsigned long long)RELAXED_LOAD(&slot->charged_bytes));
    if (!take_off(region, slot)) RELEASE_STORE(&usage->recount_stale, 1);
    join_ended(&usage->ended_busy_ns, &slot->busy_ns);
    join_ended(&usage->ended_throttled_ns, &slot->throttled_ns);
    join_ended(&usage->ended_launches, &slot->launches);
    join_ended(&usage->ended_refused, &slot->refused);
    join_ended(&usage->ended_refused_bytes, &slot->refused_bytes);
    memset((char *)slot + sizeof slot->state, 0, sizeof *slot - sizeof slot->state);
    RELEASE_STORE(&slot->state, VGPU_SLOT_FREE);
}

static unsigned clear_all_dead(struct vgpu_region *region) {
    unsigned cleared = 0;
    for (unsigned number = 0; number < VGPU_USAGE_SLOTS; number++) {
        if (!lock_if_dead(region, number)) continue;
        struct vgpu_usage_slot *slot = &region->usage->slots[number];
        bool gone = !vgpu_region_lingers || !vgpu_region_lingers(slot);
        end_recount_of(region->usage, number + 1);
        if (gone) clear_dead(region, number);
        else settle_dead(region->usage, slot);
        vgpu_slot_lock(region->repair_file, number, false);
        cleared += gone;
    }
    return cleared;
}

/* No change of the total under way in any slot. */
static bool is_quiet(const struct vgpu_usage *usage) {
    for (unsigned number = 0; number < VGPU_USAGE_SLOTS; number++) {
        const struct vgpu_usage_slot *slot = &usage->slots[number];
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

/* The total becomes the slots' sum, if no change was under way meanwhile and the recount is still ours. The mark
 * goes before the count: a slot that another clears after it was counted sets the mark again. */
static bool count(const struct vgpu_region *region) {
    struct vgpu_usage *usage = region->usage;
    __atomic_store_n(&usage->recount_stale, 0, __ATOMIC_SEQ_CST);
    uint64_t before = __atomic_load_n(&usage->charged_bytes, __ATOMIC_SEQ_CST), sum = sum_of_slots(usage);
    if (is_quiet(usage) && __atomic_load_n(&usage->recount_owner, __ATOMIC_SEQ_CST) == recounter(region) &&
        __atomic_compare_exchange_n(&usage->charged_bytes, &before, sum, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        return true;
    RELEASE_STORE(&usage->recount_stale, 1);
    return false;
}

/* Waits until all changes have ended, and counts; processes that die meanwhile are cleared. A change that did not see
 * us yet has stored its mark already, though it may be on its way. */
static void recount(struct vgpu_region *region) {
    struct timespec nap = {0, DRAIN_NAP_NS}, arrival = {0, MARKS_ARRIVE_NS};
    uint64_t since = vgpu_now_ns();
    clock_nanosleep(CLOCK_MONOTONIC, 0, &arrival, 0);
    while (!is_quiet(region->usage) || !count(region)) {
        if (vgpu_now_ns() - since > DRAIN_PATIENCE_NS) {
            region->recount_not_before_ns = vgpu_now_ns() + RECOUNT_AGAIN_NS;
            return;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
        clear_all_dead(region);
    }
}

static void recount_if_stale(struct vgpu_region *region) {
    uint32_t *owner = &region->usage->recount_owner, nobody = 0, me = recounter(region);
    if (!ACQUIRE_LOAD(&region->usage->recount_stale) || vgpu_now_ns() < region->recount_not_before_ns) return;
    if (!__atomic_compare_exchange_n(owner, &nobody, me, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return;
    recount(region);
    __atomic_compare_exchange_n(owner, &me, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Another open file description than the slot's, since a program may have closed that one's descriptor; where the
 * path leads there no more (chroot), the slot's own. */
static int open_repair_file(const struct vgpu_region *region) {
    int file = vgpu_usage_open(region);
    return file < 0 && vgpu_usage_is(region, region->lock_file) ? fcntl(region->lock_file, F_DUPFD_CLOEXEC, 3) : file;
}

bool vgpu_repair_locked(struct vgpu_region *region) {
    region->repair_file = open_repair_file(region);
    if (region->repair_file < 0) return false;
    if (region->slot) end_recount_of(region->usage, recounter(region)); /* no thread of ours counts: not our word */
    unsigned cleared = clear_all_dead(region);
    if (region->slot) recount_if_stale(region);
    if (vgpu_usage_is(region, region->repair_file)) close(region->repair_file);
    region->repair_file = -1;
    return cleared > 0;
}

void vgpu_region_repair(struct vgpu_region *region) {
    if (!ACQUIRE_LOAD(&region->slot) || !vgpu_same_process()) return;
    vgpu_lock(&region->lock);
    vgpu_repair_locked(region);
    vgpu_unlock(&region->lock);
}
