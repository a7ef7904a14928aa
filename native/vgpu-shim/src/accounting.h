/* What the parts of the accounting share among themselves. */
#ifndef VGPU_ACCOUNTING_H
#define VGPU_ACCOUNTING_H

#include "region.h"

/* Locks or unlocks the lock byte of a slot by an open file description; false: somebody else holds it. */
bool vgpu_slot_lock(int file, unsigned number, bool lock);

/* Opens the usage file anew; -1 if its path is gone or has come to mean another file. */
int vgpu_usage_open(const struct vgpu_region *region);

/* True if the descriptor is still the usage file: a program may close what it did not open, and reuse the number. */
bool vgpu_usage_is(const struct vgpu_region *region, int file);

/* Repairs with region->lock held; true if some slot was given back. */
bool vgpu_repair_locked(struct vgpu_region *region);

/* Marks in this process's slot that a change of the total is under way; false, and no mark, while somebody counts.
 * One thread of the process at a time is in a change: so the slot's figures need no atomic operations. */
bool vgpu_change_begin(struct vgpu_region *region);
void vgpu_change_end(struct vgpu_region *region);

#endif
