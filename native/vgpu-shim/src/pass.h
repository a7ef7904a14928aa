/* What a thread may launch without asking anybody: so that the common launch is some twenty instructions and two
 * stores, in the three registers that its arguments leave free. It is compared with a piece of work that the thread
 * has launched before, and for which so many more launches are paid.
 *
 * A pass is good for as long as its epoch is the process's. Whoever changes what a launch must heed (a limit,
 * the gate, a capture) moves the epoch on, and every thread asks again at its next launch. */
#ifndef VGPU_PASS_H
#define VGPU_PASS_H

#include "shares.h"

#define VGPU_PASS_LINES_LOG2 5

/* What tells launches of one function apart. */
struct vgpu_shape {
    unsigned x, y, z, block_x, block_y, block_z;
};

/* A piece of work that this thread has launched before. */
struct vgpu_pass_line {
    const void *work;
    struct vgpu_shape shape;
    int64_t credit;   /* launches that are paid for */
    int64_t price_ns; /* of each of them */
    int64_t until;    /* launches beyond them until one is to be measured */
    struct vgpu_device *device;
};

struct vgpu_pass {
    uint64_t free_epoch; /* nothing is limited: launches are only counted */
    uint64_t paid_epoch; /* what has credit in `lines` may go out */
    uint64_t *launches;  /* the counter of this thread */
    int64_t advance_ns;  /* paid already, for no line yet, for `device` */
    struct vgpu_device *device;
    uint64_t measured_ns; /* when this thread last measured a launch, and on which stream */
    CUstream measured_stream;
    bool rested; /* the card should be done with all that this process sent before */
    struct vgpu_pass_line lines[1u << VGPU_PASS_LINES_LOG2];
};

extern __thread struct vgpu_pass vgpu_pass __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern uint64_t vgpu_epoch __attribute__((visibility("hidden")));

#define VGPU_ALWAYS static inline __attribute__((always_inline))

VGPU_ALWAYS struct vgpu_shape vgpu_shape_of(unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz) {
    return (struct vgpu_shape){x, y, z, bx, by, bz};
}

VGPU_ALWAYS bool vgpu_same_work(const struct vgpu_pass_line *line, const void *work, struct vgpu_shape shape) {
    return VGPU_LIKELY(line->work == work) && VGPU_LIKELY(line->shape.x == shape.x) && VGPU_LIKELY(line->shape.y == shape.y) &&
           VGPU_LIKELY(line->shape.z == shape.z) && VGPU_LIKELY(line->shape.block_x == shape.block_x) &&
           VGPU_LIKELY(line->shape.block_y == shape.block_y) && VGPU_LIKELY(line->shape.block_z == shape.block_z);
}

VGPU_ALWAYS struct vgpu_pass_line *vgpu_pass_line(struct vgpu_pass *pass, const void *work, struct vgpu_shape shape) {
    uint32_t mixed = ((uint32_t)(uintptr_t)work + shape.x + shape.y * 8) * 0x9e3779b1u;
    return &pass->lines[mixed >> (32 - VGPU_PASS_LINES_LOG2)];
}

/* Threads may share a counter: a lost count now and then is cheaper than a locked one always. */
VGPU_ALWAYS void vgpu_pass_count(struct vgpu_pass *pass) {
    __atomic_store_n(pass->launches, RELAXED_LOAD(pass->launches) + 1, __ATOMIC_RELAXED);
}

/* True if the launch may go out as it is; false: it has to ask (compute.h). */
VGPU_ALWAYS bool vgpu_may_pass(const void *work, struct vgpu_shape shape) {
    struct vgpu_pass *pass = &vgpu_pass;
    __asm__("" : "+r"(pass)); /* one register for it, not two: the arguments fill most of them */
    uint64_t epoch = RELAXED_LOAD(&vgpu_epoch);
    if (VGPU_UNLIKELY(pass->free_epoch != epoch)) {
        if (VGPU_UNLIKELY(pass->paid_epoch != epoch)) return false;
        struct vgpu_pass_line *line = vgpu_pass_line(pass, work, shape);
        if (VGPU_UNLIKELY(!vgpu_same_work(line, work, shape) || line->credit <= 0)) return false;
        line->credit--;
    }
    vgpu_pass_count(pass);
    return true;
}

/* Every thread asks again at its next launch. */
VGPU_ALWAYS void vgpu_pass_end_all(void) { __atomic_fetch_add(&vgpu_epoch, 1, __ATOMIC_ACQ_REL); }

#endif
