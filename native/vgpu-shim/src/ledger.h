/* What this process holds: address or handle -> charge. Constant time at any number of live entries. */
#ifndef VGPU_LEDGER_H
#define VGPU_LEDGER_H

#include "charge.h"

#define VGPU_LEDGER_SHARDS 16

struct vgpu_holding {
    CUcontext context; /* whose end frees it; 0: outlives contexts */
    void *record;      /* what a kind of memory keeps beside its charge */
    uint64_t size;
    struct vgpu_charge charge;
};

struct vgpu_ledger_entry;
struct vgpu_ledger {
    struct vgpu_ledger_shard {
        struct vgpu_lock lock;
        uint32_t capacity, count;
        struct vgpu_ledger_entry *entries;
    } shards[VGPU_LEDGER_SHARDS];
};

/* Enters a holding under a key that is not 0; an old one under the same key is replaced. */
void vgpu_ledger_put(struct vgpu_ledger *ledger, uint64_t key, const struct vgpu_holding *holding);

/* Removes the entry; false when there is none. */
bool vgpu_ledger_take(struct vgpu_ledger *ledger, uint64_t key, struct vgpu_holding *holding);

/* Reads the entry; false when there is none. */
bool vgpu_ledger_see(struct vgpu_ledger *ledger, uint64_t key, struct vgpu_holding *holding);

/* Removes every entry of a context and ends its charge. Walks the whole ledger. */
void vgpu_ledger_end_context(struct vgpu_ledger *ledger, CUcontext context);

/* Sum of the charges on a card. Walks the whole ledger. */
uint64_t vgpu_ledger_bytes_on(struct vgpu_ledger *ledger, const struct vgpu_device *device);

/* In a forked child: all of it is the parent's. */
void vgpu_ledger_forget(struct vgpu_ledger *ledger);

#endif
