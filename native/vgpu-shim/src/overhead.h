/* What the driver takes on a card without being asked by a call that could be refused. */
#ifndef VGPU_OVERHEAD_H
#define VGPU_OVERHEAD_H

#include "cards.h"

/* From the background, some times a second: charges what NVML reports beyond all that is charged. */
void vgpu_overhead_measure(struct vgpu_device *device);

/* In a forked child. */
void vgpu_overhead_forget(void);

#endif
