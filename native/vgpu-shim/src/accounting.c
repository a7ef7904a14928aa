/* The share's total: reserved by compare-and-swap below the limit, so that any number of racing processes
 * never exceed it and never fail while there is room.
 *
 * A change touches the total and the slot. Around both, the slot says that a change is under way; a process
 * that dies in between leaves that mark, and whoever finds it recounts the total from the slots (repair.c).
 * While somebody recounts, no change begins. */
#include "accounting.h"

#include <time.h>

#define RECOUNT_PATIENCE_NS 1000000000u
#define RECOUNT_NAP_NS 50000

static uint64_t *kind_bytes(struct vgpu_usage_slot *slot, enum vgpu_kind kind) {
    switch (kind) {
    case VGPU_KIND_CONTEXT: return &slot->context_bytes;
    case VGPU_KIND_MODULE: return &slot->module_bytes;
    case VGPU_KIND_MANAGED: return &slot->managed_bytes;
    default: return &slot->buffer_bytes;
    }
}

static void wait_for_recount(struct vgpu_region *region) {
    uint64_t since = vgpu_now_ns();
    struct timespec nap = {0, RECOUNT_NAP_NS};
    while (ACQUIRE_LOAD(&region->usage->recount_owner)) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
        vgpu_region_repair(region); /* takes over from a recounter that died */
        if (vgpu_now_ns() - since > RECOUNT_PATIENCE_NS) return; /* stopped: it will find its total changed */
    }
}

static void begin(struct vgpu_region *region, struct vgpu_usage_slot *slot) {
    __atomic_fetch_add(&slot->operations, 1, __ATOMIC_SEQ_CST);
    if (VGPU_LIKELY(!__atomic_load_n(&region->usage->recount_owner, __ATOMIC_SEQ_CST))) return;
    __atomic_fetch_sub(&slot->operations, 1, __ATOMIC_SEQ_CST);
    wait_for_recount(region);
    __atomic_fetch_add(&slot->operations, 1, __ATOMIC_SEQ_CST);
}

static void end(struct vgpu_usage_slot *slot) { __atomic_fetch_sub(&slot->operations, 1, __ATOMIC_RELEASE); }

static uint64_t take_below(uint64_t *total, uint64_t limit, uint64_t wanted, bool partly, uint64_t *after) {
    uint64_t seen = RELAXED_LOAD(total), taken;
    do {
        uint64_t room = limit > seen ? limit - seen : 0;
        taken = wanted <= room ? wanted : partly ? room : 0;
        *after = seen + taken;
    } while (taken && !__atomic_compare_exchange_n(total, &seen, *after, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return taken;
}

static void note_peak(struct vgpu_usage *usage, uint64_t total) {
    uint64_t peak = RELAXED_LOAD(&usage->peak_bytes);
    while (total > peak &&
           !__atomic_compare_exchange_n(&usage->peak_bytes, &peak, total, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

uint64_t vgpu_region_take(struct vgpu_region *region, uint64_t wanted, bool partly, enum vgpu_kind kind) {
    struct vgpu_usage_slot *slot = vgpu_region_slot(region);
    uint64_t after;
    if (!slot) return 0;
    begin(region, slot);
    uint64_t taken = take_below(&region->usage->charged_bytes, vgpu_region_memory_limit(region), wanted, partly, &after);
    if (taken) {
        __atomic_fetch_add(&slot->charged_bytes, taken, __ATOMIC_RELAXED);
        __atomic_fetch_add(kind_bytes(slot, kind), taken, __ATOMIC_RELAXED);
    }
    end(slot);
    if (taken) note_peak(region->usage, after);
    return taken;
}

void vgpu_region_give(struct vgpu_region *region, uint64_t bytes, enum vgpu_kind kind) {
    struct vgpu_usage_slot *slot = ACQUIRE_LOAD(&region->slot);
    if (!slot || !bytes) return;
    begin(region, slot);
    __atomic_fetch_sub(&region->usage->charged_bytes, bytes, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&slot->charged_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_fetch_sub(kind_bytes(slot, kind), bytes, __ATOMIC_RELAXED);
    end(slot);
}
