/* Measures launches: a pair of events around one in N. */
#ifndef VGPU_SAMPLES_H
#define VGPU_SAMPLES_H

#include "cards.h"
#include "estimates.h"

struct vgpu_sample;

/* Begins to measure: an event in front of the launch. NULL when it cannot (capturing, no free event). */
struct vgpu_sample *vgpu_sample_begin(CUstream stream, bool per_thread);

/* The event behind it. `paid_ns` is what the launch has been charged. */
void vgpu_sample_end(struct vgpu_sample *sample, struct vgpu_device *device, struct vgpu_estimate *estimate,
                     int64_t paid_ns, CUstream stream, bool per_thread);

/* The launch failed: nothing to measure. */
void vgpu_sample_drop(struct vgpu_sample *sample);

/* Takes finished measurements in. */
void vgpu_samples_collect(void);

/* True while a measured launch of this card has been under way for so long that more would only queue up. */
bool vgpu_samples_are_behind(const struct vgpu_device *device);

/* Measured launches of this card that are under way, but for those that seem to wait for something else. */
unsigned vgpu_samples_underway(const struct vgpu_device *device);

/* True where several streams are in use, so that only a launch after a rest can be measured. */
bool vgpu_samples_want_rested(void);

void vgpu_samples_end_context(CUcontext context);

/* In a forked child. */
void vgpu_samples_forget(void);

#endif
