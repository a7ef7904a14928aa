/* Memory that the driver takes for itself: contexts and code. Its size is known only afterwards. */
#ifndef VGPU_GROWTH_H
#define VGPU_GROWTH_H

#include "holdings.h"

/* What is to be called, and how to undo it. */
struct vgpu_growth {
    struct vgpu_device *device; /* NULL: nothing is charged */
    enum vgpu_kind kind;
    struct vgpu_ledger *ledger;
    CUresult (*create)(void *);
    CUresult (*undo)(void *);
    uint64_t (*key)(void *); /* of what was created */
    void *argument;
};

/* Calls `create` and charges by what the process's memory on the card grew; undoes it when that is over the limit. */
CUresult vgpu_grow(const struct vgpu_growth *growth);

extern struct vgpu_ledger vgpu_contexts, vgpu_modules;

#endif
