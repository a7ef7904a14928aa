/* Streams that record their launches into a graph instead of running them. */
#ifndef VGPU_CAPTURE_H
#define VGPU_CAPTURE_H

#include "vgpu.h"

extern uint32_t vgpu_captures_underway __attribute__((visibility("hidden")));

/* True while some stream of this process is being captured. */
static inline bool vgpu_captures(void) { return VGPU_UNLIKELY(RELAXED_LOAD(&vgpu_captures_underway) != 0); }

/* True if launches on this stream are recorded and not run. */
bool vgpu_is_capturing(CUstream stream, bool per_thread);

/* In a forked child. */
void vgpu_capture_forget(void);

#endif
