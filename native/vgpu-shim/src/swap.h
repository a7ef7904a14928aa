/* Oversubscription: host memory that stands in for device memory, where a share allows it. */
#ifndef VGPU_SWAP_H
#define VGPU_SWAP_H

#include "holdings.h"

/* Host memory that the card's shares may use, and do use, together. */
uint64_t vgpu_swap_limit(const struct vgpu_device *device);
uint64_t vgpu_swap_used(const struct vgpu_device *device);

/* Serves an allocation of the current context from host memory and enters it in the linear ledger.
 * CUDA_ERROR_OUT_OF_MEMORY where no share has that much left. */
CUresult vgpu_swap_alloc(CUdeviceptr *address, uint64_t bytes);

/* Gives a swapped charge back. */
void vgpu_swap_end(struct vgpu_charge *charge, uint64_t bytes);

/* True if the address lies in memory that was served so: advice to move it to the card is not followed. */
bool vgpu_is_swapped(CUdeviceptr address);

/* The memory at `address` is gone. */
void vgpu_swap_forget_range(CUdeviceptr address);

/* In a forked child. */
void vgpu_swap_forget(void);

#endif
