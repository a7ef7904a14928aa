/* What the parts of the accounting share among themselves. */
#ifndef VGPU_ACCOUNTING_H
#define VGPU_ACCOUNTING_H

#include "region.h"

/* Locks or unlocks the lock byte of a slot by an open file description; false: somebody else holds it. */
bool vgpu_slot_lock(int file, unsigned number, bool lock);

/* Repairs with region->lock held; true if some slot was given back. */
bool vgpu_repair_locked(struct vgpu_region *region);

#endif
