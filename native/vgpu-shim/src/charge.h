/* Memory that a process holds of a card, and which of the card's shares paid for it. */
#ifndef VGPU_CHARGE_H
#define VGPU_CHARGE_H

#include "shares.h"

struct vgpu_charge {
    struct vgpu_device *device; /* NULL: nothing is charged */
    enum vgpu_kind kind;
    unsigned payers; /* of the card's shares: so many of `parts` are in use, mostly one */
    uint64_t parts[VGPU_MAX_SHARES];
};

/* Copies what is in use of it. */
static inline void vgpu_charge_copy(struct vgpu_charge *to, const struct vgpu_charge *from) {
    to->device = from->device;
    to->kind = from->kind;
    to->payers = from->payers;
    to->parts[0] = from->parts[0];
    for (unsigned i = 1; VGPU_UNLIKELY(i < from->payers); i++) to->parts[i] = from->parts[i];
}

/* Reserves `bytes` of `device` in a new charge; false, and counted as refused, when the limit forbids it. */
bool vgpu_charge(struct vgpu_charge *charge, struct vgpu_device *device, uint64_t bytes, enum vgpu_kind kind);

/* Makes an existing charge larger; false, and unchanged, when the limit forbids it. */
bool vgpu_charge_grow(struct vgpu_charge *charge, uint64_t bytes);

/* The same, without counting a refusal: another attempt may follow. */
bool vgpu_charge_try(struct vgpu_charge *charge, uint64_t bytes);

/* Counts a refusal, and tells of it. */
void vgpu_charge_refused(struct vgpu_device *device, uint64_t bytes);

/* Gives `bytes` of it back. */
void vgpu_charge_shrink(struct vgpu_charge *charge, uint64_t bytes);

/* Gives all of it back. */
void vgpu_charge_end(struct vgpu_charge *charge);

uint64_t vgpu_charged_bytes(const struct vgpu_charge *charge);

/* What a program is told of a card's memory. */
struct vgpu_memory_view {
    uint64_t total, free;
};

/* Makes the driver's answer about the card one about the shares of it. See memory_query.c. */
void vgpu_narrow(const struct vgpu_device *device, struct vgpu_memory_view *view);

/* The card's shares together. */
uint64_t vgpu_device_limit(const struct vgpu_device *device);
uint64_t vgpu_device_used(const struct vgpu_device *device);

#endif
