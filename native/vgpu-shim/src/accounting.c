/* The share's total: reserved by compare-and-swap below the limit, so that any number of racing processes
 * never exceed it and never fail while there is room.
 *
 * A change touches the total and the slot. Around both, the slot says that a change is under way; a process
 * that dies in between leaves that mark, and whoever finds it recounts the total from the slots (repair.c).
 * While somebody recounts, no change begins. One thread of a process at a time makes a change: then mark and slot
 * are plain stores, and lock and total the only atomic operations, which are what all of this costs. */
#include "accounting.h"

#include <time.h>

#define RECOUNT_PATIENCE_NS 300000000u
#define RECOUNT_NAP_NS 50000

static uint64_t *kind_bytes(struct vgpu_usage_slot *slot, enum vgpu_kind kind) {
    switch (kind) {
    case VGPU_KIND_CONTEXT: return &slot->context_bytes;
    case VGPU_KIND_MODULE: return &slot->module_bytes;
    case VGPU_KIND_MANAGED: return &slot->managed_bytes;
    default: return &slot->buffer_bytes;
    }
}

/* The mark may reach others later than the look at who counts is made: a processor keeps what it stores to itself for
 * a moment. Who counts lets that moment pass first. */
bool vgpu_change_begin(struct vgpu_region *region) {
    vgpu_lock(&region->change_lock);
    __atomic_store_n(&region->slot->operations, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (VGPU_LIKELY(!ACQUIRE_LOAD(&region->usage->recount_owner))) return true;
    vgpu_change_end(region);
    return false;
}

void vgpu_change_end(struct vgpu_region *region) {
    RELEASE_STORE(&region->slot->operations, 0);
    vgpu_unlock(&region->change_lock);
}

/* Within a change. */
static void add(uint64_t *figure, uint64_t bytes) {
    __atomic_store_n(figure, RELAXED_LOAD(figure) + bytes, __ATOMIC_RELAXED);
}

/* Takes the recount away from a process that is stopped (a frozen container): it will find that it has lost it. */
static void depose(struct vgpu_usage *usage, uint32_t owner) {
    if (ACQUIRE_LOAD(&usage->recount_owner) != owner) return;
    RELEASE_STORE(&usage->recount_stale, 1);
    __atomic_compare_exchange_n(&usage->recount_owner, &owner, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Nobody counts under this number: who counts has a slot, and a dead one's is given up before the slot is. */
static bool is_nobodys(const struct vgpu_usage *usage, uint32_t owner) {
    return owner > VGPU_USAGE_SLOTS || ACQUIRE_LOAD(&usage->slots[owner - 1].state) == VGPU_SLOT_FREE;
}

static VGPU_SELDOM void begin_after_recount(struct vgpu_region *region) {
    struct timespec nap = {0, RECOUNT_NAP_NS};
    uint64_t since = 0;
    while (!vgpu_change_begin(region)) {
        uint32_t owner = ACQUIRE_LOAD(&region->usage->recount_owner);
        if (!owner) continue;
        if (!since) since = vgpu_now_ns();
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
        vgpu_region_repair(region); /* takes over from a recounter that died */
        bool too_long = vgpu_now_ns() - since > RECOUNT_PATIENCE_NS;
        if (too_long || is_nobodys(region->usage, owner)) depose(region->usage, owner);
    }
}

static inline void begin(struct vgpu_region *region) {
    if (VGPU_UNLIKELY(!vgpu_change_begin(region))) begin_after_recount(region);
}

static inline uint64_t take_below(uint64_t *total, uint64_t limit, uint64_t wanted, bool partly, uint64_t *after) {
    uint64_t seen = RELAXED_LOAD(total), taken;
    do {
        uint64_t room = limit > seen ? limit - seen : 0;
        taken = wanted <= room ? wanted : partly ? room : 0;
        *after = seen + taken;
    } while (taken && !__atomic_compare_exchange_n(total, &seen, *after, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return taken;
}

static VGPU_SELDOM void raise_peak(struct vgpu_usage *usage, uint64_t total) {
    uint64_t peak = RELAXED_LOAD(&usage->peak_bytes);
    while (total > peak &&
           !__atomic_compare_exchange_n(&usage->peak_bytes, &peak, total, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

uint64_t vgpu_region_take(struct vgpu_region *region, uint64_t wanted, bool partly, enum vgpu_kind kind) {
    struct vgpu_usage_slot *slot = vgpu_region_slot(region);
    uint64_t after;
    if (!slot) return 0;
    begin(region);
    uint64_t taken = take_below(&region->usage->charged_bytes, vgpu_region_memory_limit(region), wanted, partly, &after);
    if (taken) {
        add(&slot->charged_bytes, taken);
        add(kind_bytes(slot, kind), taken);
    }
    vgpu_change_end(region);
    if (VGPU_UNLIKELY(after > RELAXED_LOAD(&region->usage->peak_bytes))) raise_peak(region->usage, after);
    return taken;
}

void vgpu_region_give(struct vgpu_region *region, uint64_t bytes, enum vgpu_kind kind) {
    struct vgpu_usage_slot *slot = ACQUIRE_LOAD(&region->slot);
    if (!slot || !bytes || !vgpu_same_process()) return;
    begin(region);
    __atomic_fetch_sub(&region->usage->charged_bytes, bytes, __ATOMIC_SEQ_CST);
    add(&slot->charged_bytes, 0 - bytes);
    add(kind_bytes(slot, kind), 0 - bytes);
    vgpu_change_end(region);
}
