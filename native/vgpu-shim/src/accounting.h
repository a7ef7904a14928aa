/* What the parts of the accounting share among themselves. */
#ifndef VGPU_ACCOUNTING_H
#define VGPU_ACCOUNTING_H

#include "region.h"

/* Locks or unlocks the lock byte of a slot by an open file description; false: somebody else holds it. */
bool vgpu_slot_lock(int file, unsigned number, bool lock);

/* Repairs with region->lock held; true if some slot was given back. */
bool vgpu_repair_locked(struct vgpu_region *region);

static inline struct vgpu_usage_recount *vgpu_recount(struct vgpu_usage *usage) {
    return (struct vgpu_usage_recount *)(void *)usage->reserved;
}

static inline uint32_t *vgpu_recount_owner(struct vgpu_usage *usage) { return &vgpu_recount(usage)->owner; }

static inline uint32_t *vgpu_operations(struct vgpu_usage_slot *slot) {
    return &((struct vgpu_slot_flight *)(void *)slot->reserved)->operations;
}

#endif
