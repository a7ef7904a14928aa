/* A reserve grows by chunks that the driver chooses (32 MiB on known cards), so a small allocation may take
 * much more of the card than it asked for. How it grows is learnt from what it holds; until then the common
 * chunk is tried first, and the exact size where that does not fit. */
#include "reserves.h"

#define USUAL_CHUNK (32ull << 20)
#define SMALLEST_CHUNK (2ull << 20)
#define NO_CHUNK 512ull /* what every allocation is rounded to */

static uint64_t in_chunks(uint64_t bytes, uint64_t chunk) {
    uint64_t more = bytes % chunk ? chunk - bytes % chunk : 0;
    return bytes > UINT64_MAX - more ? UINT64_MAX : bytes + more;
}

/* With the lock held: makes the charge `due`; false: that is over the limit. */
static bool pay(struct vgpu_reserve *reserve, uint64_t due) {
    uint64_t paid = vgpu_charged_bytes(&reserve->charge);
    reserve->changes++;
    if (due > paid) return vgpu_charge_try(&reserve->charge, due - paid);
    vgpu_charge_shrink(&reserve->charge, paid - due);
    return true;
}

struct reading {
    uint64_t held, used;
};

/* With the lock taken, what the driver says: read again when something changed between the two. */
static struct reading lock_with_reading(struct vgpu_reserve *reserve) {
    for (;;) {
        uint64_t before = ACQUIRE_LOAD(&reserve->changes);
        struct reading seen = {reserve->held(reserve), reserve->used ? reserve->used(reserve) : 0};
        vgpu_lock(&reserve->lock);
        if (reserve->changes == before) return seen;
        vgpu_unlock(&reserve->lock);
    }
}

static bool pay_in_chunks(struct vgpu_reserve *reserve, struct reading seen) {
    uint64_t held = seen.held, live;
    if (__builtin_add_overflow(reserve->live, seen.used, &live)) return false;
    uint64_t more = live > held ? live - held : 0;
    uint64_t chunk = reserve->chunk ? reserve->chunk : USUAL_CHUNK;
    uint64_t grown = in_chunks(more, chunk);
    reserve->asked = more;
    reserve->held_then = held;
    if (grown > UINT64_MAX - held) return false;
    if (pay(reserve, held + grown)) return true;
    return !reserve->chunk && pay(reserve, held + more);
}

bool vgpu_reserve_begin(struct vgpu_reserve *reserve, uint64_t bytes) {
    struct reading seen = lock_with_reading(reserve);
    uint64_t before = reserve->live;
    bool fits = !__builtin_add_overflow(before, bytes, &reserve->live) && pay_in_chunks(reserve, seen);
    if (!fits) reserve->live = before;
    vgpu_unlock(&reserve->lock);
    return fits;
}

/* It grew by more than was asked: it takes chunks. By an odd size: it does not. */
static void learn(struct vgpu_reserve *reserve, uint64_t held) {
    uint64_t grown = held > reserve->held_then ? held - reserve->held_then : 0;
    uint64_t divisor = grown & -grown, asked = in_chunks(reserve->asked, NO_CHUNK);
    if (reserve->chunk || !grown || !reserve->asked) return;
    if (divisor < SMALLEST_CHUNK) reserve->chunk = NO_CHUNK;
    else if (grown > asked) reserve->chunk = divisor < USUAL_CHUNK ? divisor : USUAL_CHUNK;
}

bool vgpu_reserve_end(struct vgpu_reserve *reserve, uint64_t less) {
    struct reading seen = lock_with_reading(reserve);
    if (!less || seen.used) learn(reserve, seen.held);
    reserve->live -= less < reserve->live ? less : reserve->live;
    uint64_t live = reserve->live + seen.used;
    bool fits = pay(reserve, seen.held > live ? seen.held : live);
    vgpu_unlock(&reserve->lock);
    return fits;
}

bool vgpu_reserves_reclaim(const struct vgpu_device *device) {
    bool pools = vgpu_pools_reclaim(device), graphs = vgpu_graphs_reclaim(device);
    return pools || graphs;
}
