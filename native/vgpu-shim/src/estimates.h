/* How long a launch takes: measured on one in N by a pair of events, remembered per function and shape. */
#ifndef VGPU_ESTIMATES_H
#define VGPU_ESTIMATES_H

#include "cards.h"

struct vgpu_estimate {
    uint64_t key;     /* function and shape; 0: free */
    uint64_t mean_ns; /* 0: not measured yet */
    uint64_t least_ns;
    uint32_t samples;
    uint32_t underway; /* launches sent while nothing was measured yet */
    uint32_t turn;     /* launches since the last measured one */
};

struct vgpu_sample;

/* The estimate of a piece of work; never NULL (a full table shares one). */
struct vgpu_estimate *vgpu_estimate_of(const void *work, uint64_t shape);

/* Every so many launches one is measured: often enough to follow, seldom enough to cost nothing. */
bool vgpu_estimate_wants_sample(struct vgpu_estimate *estimate);

/* Begins to measure: an event in front of the launch. NULL when it cannot (capturing, no free event). */
struct vgpu_sample *vgpu_sample_begin(CUstream stream, bool per_thread);

/* The event behind it. `paid_ns` is what the launch has been charged. */
void vgpu_sample_end(struct vgpu_sample *sample, struct vgpu_device *device, struct vgpu_estimate *estimate,
                     int64_t paid_ns, CUstream stream, bool per_thread);

/* The launch failed: nothing to measure. */
void vgpu_sample_drop(struct vgpu_sample *sample);

/* Takes finished measurements in. */
void vgpu_samples_collect(void);

void vgpu_samples_end_context(CUcontext context);
void vgpu_estimates_forget(void);

#endif
