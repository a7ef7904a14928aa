/* Memory whose life is not one address: stream-ordered pools and physical allocations. */
#ifndef VGPU_POOLS_H
#define VGPU_POOLS_H

#include "shares.h"

/* What pools, and physical allocations, are charged on a card. */
uint64_t vgpu_pool_bytes(const struct vgpu_device *device);
uint64_t vgpu_physical_bytes(const struct vgpu_device *device);

/* Takes the charge of a stream-ordered allocation back if `address` is one (cuMemFree may free those). */
CUresult vgpu_free_pooled(CUdeviceptr address, CUresult (*free)(void *), void *argument, bool *pooled);

/* In a forked child. */
void vgpu_pools_forget(void);
void vgpu_physical_forget(void);

#endif
