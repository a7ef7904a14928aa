/* The ledgers of this process, one per kind of name that memory goes by. */
#ifndef VGPU_HOLDINGS_H
#define VGPU_HOLDINGS_H

#include "cards.h"
#include "ledger.h"

extern struct vgpu_ledger vgpu_linear;  /* device addresses */
extern struct vgpu_ledger vgpu_arrays;  /* array and mipmapped-array handles */
extern struct vgpu_ledger vgpu_handles; /* physical allocations of cuMemCreate */
extern struct vgpu_ledger vgpu_maps;    /* mapped addresses */

/* A holding for `bytes` on the current context's card, reserved before the driver is asked. */
bool vgpu_hold(struct vgpu_holding *holding, uint64_t bytes, enum vgpu_kind kind);

/* After the driver answered: enters the holding under `key`, or gives it back. Returns `result`. */
CUresult vgpu_settle(struct vgpu_ledger *ledger, CUresult result, uint64_t key, struct vgpu_holding *holding);

/* Frees by the driver what is known under `key`: entry out, driver, charge back (or entry in again). */
CUresult vgpu_release(struct vgpu_ledger *ledger, uint64_t key, CUresult (*free)(void *), void *argument);

/* Everything that dies with a context. */
void vgpu_end_context(CUcontext context);

/* Charges of all ledgers and pools on a card, without contexts and modules. */
uint64_t vgpu_held_bytes(const struct vgpu_device *device);

#endif
