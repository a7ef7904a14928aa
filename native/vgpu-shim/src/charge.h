/* Memory that a process holds of a card, and which of the card's shares paid for it. */
#ifndef VGPU_CHARGE_H
#define VGPU_CHARGE_H

#include "shares.h"

struct vgpu_charge {
    struct vgpu_device *device; /* NULL: nothing is charged */
    uint64_t parts[VGPU_MAX_SHARES];
    enum vgpu_kind kind;
};

/* Reserves `bytes` of `device` in a new charge; false, and counted as refused, when the limit forbids it. */
bool vgpu_charge(struct vgpu_charge *charge, struct vgpu_device *device, uint64_t bytes, enum vgpu_kind kind);

/* Makes an existing charge larger; false, and unchanged, when the limit forbids it. */
bool vgpu_charge_grow(struct vgpu_charge *charge, uint64_t bytes);

/* Gives `bytes` of it back. */
void vgpu_charge_shrink(struct vgpu_charge *charge, uint64_t bytes);

/* Gives all of it back. */
void vgpu_charge_end(struct vgpu_charge *charge);

uint64_t vgpu_charged_bytes(const struct vgpu_charge *charge);

/* The card's shares together. */
uint64_t vgpu_device_limit(const struct vgpu_device *device);
uint64_t vgpu_device_used(const struct vgpu_device *device);

#endif
