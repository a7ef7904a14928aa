/* How long a launch takes: remembered per function and shape, from the ones that were measured. */
#ifndef VGPU_ESTIMATES_H
#define VGPU_ESTIMATES_H

#include "pass.h"

struct vgpu_estimate {
    uint64_t key;     /* function and shape; 0: free */
    uint64_t mean_ns; /* 0: not measured yet */
    uint64_t least_ns, least_before_ns; /* shortest span of this stretch of samples, and of the one before */
    uint32_t samples;
    uint32_t clean;       /* of them, the ones that nobody disturbed */
    uint32_t since_clean; /* samples since the last such one */
    uint32_t underway;    /* launches sent while nothing was measured yet */
    uint32_t turn;        /* launches since the last measured one */
    uint32_t is_second;   /* the next sample follows one at once */
    uint32_t arrivals;    /* how often somebody else had come to the card, when last learnt */
    uint64_t kept_ns, next_kept_ns, kept_at_ns; /* the mean of some time ago, and the next to be kept */
};

/* The estimate of a piece of work; never NULL (a full table shares one). */
struct vgpu_estimate *vgpu_estimate_of(const void *work, const struct vgpu_shape *shape);

/* Every so many launches two in a row are measured: often enough to follow, seldom enough to cost nothing.
 * `is_turn`: the caller has counted that many launches by itself. */
bool vgpu_estimate_wants_sample(struct vgpu_estimate *estimate, bool is_turn);

/* True where the next two launches should go out one right behind the other: `is_turn` as above. In company only the
 * second of such a pair tells what it takes, and the last one told long ago. */
bool vgpu_estimate_wants_pair(const struct vgpu_estimate *estimate, bool is_turn);

/* What it used to take before anything that happens now can have spoilt the mean; 0: not known. */
uint64_t vgpu_estimate_usual(const struct vgpu_estimate *estimate);

/* How many launches may go out before the next one is measured. */
int64_t vgpu_estimate_until_next(const struct vgpu_estimate *estimate);

/* Folds a measured span into the estimate and returns what the launch itself took, as far as can be told.
 * `is_clean`: the span holds the launch and nothing else. `arrivals`: vgpu_watch_arrivals(). */
uint64_t vgpu_estimate_learn(struct vgpu_estimate *estimate, uint64_t span_ns, bool is_clean, uint32_t arrivals);

/* In a forked child. */
void vgpu_estimates_forget(void);

#endif
