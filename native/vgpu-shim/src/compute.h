/* The limit on a card's busy time: every launch is paid from the share's budget before it goes out. */
#ifndef VGPU_COMPUTE_H
#define VGPU_COMPUTE_H

#include "cards.h"
#include "pass.h"
#include "samples.h"

/* One launch on its way. */
struct vgpu_launch {
    struct vgpu_device *device; /* NULL: not limited */
    struct vgpu_estimate *estimate;
    struct vgpu_sample *sample; /* NULL: this launch is not measured */
    int64_t paid_ns;
    CUstream stream;
    bool per_thread;
    bool is_blind; /* nobody knows how long it takes: what was paid is a deposit */
};

/* Pays for a launch, by the current context's card, of work known by `work` (function or graph) and `shape`,
 * waiting until there is budget. False: the share refuses launches. */
bool vgpu_compute_begin(struct vgpu_launch *launch, const void *work, struct vgpu_shape shape, CUstream stream,
                        bool per_thread);

/* After the driver took it, or did not. */
void vgpu_compute_end(struct vgpu_launch *launch, CUresult result);

/* Takes a measured launch's real duration into the budget: `difference_ns` more (or less) than was paid. */
void vgpu_compute_correct(struct vgpu_device *device, int64_t difference_ns);

/* Its events are gone. */
void vgpu_compute_end_context(CUcontext context);

/* In a forked child. */
void vgpu_compute_forget(void);

#endif
