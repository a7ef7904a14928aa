/* What a thread may launch without asking anybody: so that the common launch is a few instructions.
 *
 * A pass is good for as long as its epoch is the process's. Whoever changes what a launch must heed (a limit,
 * the gate, a capture) moves the epoch on, and every thread asks again at its next launch. */
#ifndef VGPU_PASS_H
#define VGPU_PASS_H

#include "shares.h"

#define VGPU_PASS_LINES_LOG2 5

/* What tells launches of one function apart: six numbers of the launch, packed. */
struct vgpu_shape {
    uint64_t grid_xy, grid_z_block_x, block_yz;
};

/* A piece of work that this thread has launched before. */
struct vgpu_pass_line {
    const void *work;
    struct vgpu_shape shape;
    int64_t price_ns;
    int64_t left; /* launches until one is to be measured */
    uint64_t pad[2];
};

struct vgpu_pass {
    uint64_t free_epoch; /* nothing is limited: launches are only counted */
    uint64_t paid_epoch; /* what is in `lines` may go out against `advance_ns` */
    uint64_t *launches;  /* the counter of this thread */
    int64_t advance_ns;  /* paid already, not used yet, for `device` */
    struct vgpu_device *device;
    uint64_t measured_ns; /* when this thread last measured a launch, and on which stream */
    CUstream measured_stream;
    bool rested; /* the card should be done with all that this process sent before */
    struct vgpu_pass_line lines[1u << VGPU_PASS_LINES_LOG2];
};

extern __thread struct vgpu_pass vgpu_pass __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern uint64_t vgpu_epoch __attribute__((visibility("hidden")));

static inline __attribute__((always_inline)) struct vgpu_shape vgpu_shape_of(unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz) {
    return (struct vgpu_shape){x | (uint64_t)y << 32, z | (uint64_t)bx << 32, by | (uint64_t)bz << 32};
}

static inline __attribute__((always_inline)) bool vgpu_same_shape(const struct vgpu_shape *a, const struct vgpu_shape *b) {
    return ((a->grid_xy ^ b->grid_xy) | (a->grid_z_block_x ^ b->grid_z_block_x) | (a->block_yz ^ b->block_yz)) == 0;
}

static inline __attribute__((always_inline)) struct vgpu_pass_line *vgpu_pass_line(struct vgpu_pass *pass, const void *work, const struct vgpu_shape *shape) {
    uint64_t mixed = ((uint64_t)work + shape->grid_xy) * 0x9e3779b97f4a7c15ull;
    return &pass->lines[mixed >> (64 - VGPU_PASS_LINES_LOG2)];
}

/* Threads may share a counter: a lost count now and then is cheaper than a locked one always. */
static inline __attribute__((always_inline)) void vgpu_pass_count(struct vgpu_pass *pass) {
    __atomic_store_n(pass->launches, RELAXED_LOAD(pass->launches) + 1, __ATOMIC_RELAXED);
}

/* Pays for a launch from what the thread holds of a line; false: it has to ask. */
static inline __attribute__((always_inline)) bool vgpu_pass_pay(struct vgpu_pass *pass, const void *work, struct vgpu_shape shape) {
    struct vgpu_pass_line *line = vgpu_pass_line(pass, work, &shape);
    if (VGPU_UNLIKELY(line->work != work || !vgpu_same_shape(&line->shape, &shape))) return false;
    if (VGPU_UNLIKELY(line->left <= 0 || pass->advance_ns < line->price_ns)) return false;
    line->left--;
    pass->advance_ns -= line->price_ns;
    vgpu_pass_count(pass);
    return true;
}

/* True if the launch may go out as it is; false: it has to ask (compute.h). */
static inline __attribute__((always_inline)) bool vgpu_may_pass(const void *work, struct vgpu_shape shape) {
    struct vgpu_pass *pass = &vgpu_pass;
    __asm__("" : "+r"(pass)); /* one register for it, not two: the arguments fill most of them */
    uint64_t epoch = RELAXED_LOAD(&vgpu_epoch);
    if (VGPU_LIKELY(pass->free_epoch == epoch)) {
        vgpu_pass_count(pass);
        return true;
    }
    return VGPU_LIKELY(pass->paid_epoch == epoch) && vgpu_pass_pay(pass, work, shape);
}

/* Every thread asks again at its next launch. */
static inline __attribute__((always_inline)) void vgpu_pass_end_all(void) { __atomic_fetch_add(&vgpu_epoch, 1, __ATOMIC_ACQ_REL); }

#endif
