/* Memory that the driver keeps for a process in a reserve, and gives out of it: pools, and memory of graphs. */
#ifndef VGPU_RESERVES_H
#define VGPU_RESERVES_H

#include "charge.h"

/* The charge of one reserve: what lives in it, or more, where the driver holds more. */
struct vgpu_reserve {
    struct vgpu_charge charge;
    struct vgpu_lock lock; /* all of this; never held while the driver is asked */
    uint64_t live;         /* bytes that are in use, or on their way, and not part of `used` */
    uint64_t asked, held_then; /* the latest growth asked for, and what was held before */
    uint64_t chunk;        /* the driver takes multiples of it; 0: not known yet */
    uint64_t changes;      /* counts, so that a reading can be known to be stale */
    uint64_t (*held)(const struct vgpu_reserve *); /* what the driver holds now */
    uint64_t (*used)(const struct vgpu_reserve *); /* what it says is in use; 0: `live` knows all of it */
};

/* Pays for `bytes` more before the driver is asked; false: over the limit. */
bool vgpu_reserve_begin(struct vgpu_reserve *reserve, uint64_t bytes);

/* After the driver's answer: `less` bytes live no longer. False: the driver holds more than fits the limit. */
bool vgpu_reserve_end(struct vgpu_reserve *reserve, uint64_t less);

/* After a refusal: makes the driver give up what it keeps unused on the card. True if there was something. */
bool vgpu_reserves_reclaim(const struct vgpu_device *device);
bool vgpu_pools_reclaim(const struct vgpu_device *device);
bool vgpu_graphs_reclaim(const struct vgpu_device *device);

#endif
