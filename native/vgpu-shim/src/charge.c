/* Shares of one card add up: an allocation is paid by the first share that has room for all of it, or else
 * by several together, each up to its own limit. */
#include "charge.h"

#include <time.h>

#include "lingering.h"
#include "reserves.h"
#include "swap.h"

#define SPLIT_ATTEMPTS 64

uint64_t vgpu_charged_bytes(const struct vgpu_charge *charge) {
    uint64_t sum = 0;
    for (unsigned i = 0; charge->device && i < charge->payers; i++) sum += charge->parts[i];
    return sum;
}

uint64_t vgpu_device_limit(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++) {
        uint64_t limit = vgpu_region_memory_limit(&device->shares[i]);
        if (__builtin_add_overflow(sum, limit, &sum)) return UINT64_MAX;
    }
    return sum;
}

uint64_t vgpu_device_used(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++) sum += RELAXED_LOAD(&device->shares[i].usage->charged_bytes);
    return sum;
}

static inline void write_down(struct vgpu_charge *charge, unsigned share, uint64_t bytes) {
    if (VGPU_LIKELY(share == 0 && charge->payers == 0)) {
        charge->payers = 1;
        charge->parts[0] = bytes;
        return;
    }
    for (unsigned i = charge->payers; i <= share; i++) charge->parts[i] = 0;
    if (charge->payers <= share) charge->payers = share + 1;
    charge->parts[share] += bytes;
}

static inline bool take_from_one(struct vgpu_charge *charge, uint64_t bytes) {
    for (unsigned i = 0; i < charge->device->share_count; i++)
        if (vgpu_region_take(&charge->device->shares[i], bytes, false, charge->kind) == bytes) {
            write_down(charge, i, bytes);
            return true;
        }
    return false;
}

static bool take_from_all(struct vgpu_charge *charge, uint64_t bytes) {
    struct vgpu_device *device = charge->device;
    uint64_t taken[VGPU_MAX_SHARES] = {0}, missing = bytes;
    for (unsigned i = 0; i < device->share_count && missing; i++) {
        taken[i] = vgpu_region_take(&device->shares[i], missing, true, charge->kind);
        missing -= taken[i];
    }
    for (unsigned i = 0; i < device->share_count; i++) {
        if (missing) vgpu_region_give(&device->shares[i], taken[i], charge->kind);
        else write_down(charge, i, taken[i]);
    }
    return missing == 0;
}

static bool has_room(const struct vgpu_device *device, uint64_t bytes) {
    uint64_t limit = vgpu_device_limit(device), used = vgpu_device_used(device);
    return used <= limit && bytes <= limit - used;
}

/* Two that split at once may each hold what the other lacks, and both give back: then there is room again. */
static bool take_split(struct vgpu_charge *charge, uint64_t bytes) {
    struct vgpu_device *device = charge->device;
    bool done = false;
    vgpu_lock(&device->split_lock);
    for (unsigned attempt = 0; !done && attempt < SPLIT_ATTEMPTS && has_room(device, bytes); attempt++) {
        struct timespec nap = {0, (long)((vgpu_now_ns() >> 4) % 50000)};
        if (attempt) clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
        done = take_from_all(charge, bytes);
    }
    vgpu_unlock(&device->split_lock);
    return done;
}

/* Not all of it is to be had from one share at once. */
static VGPU_SELDOM bool take_with_effort(struct vgpu_charge *charge, uint64_t bytes) {
    bool several = charge->device->share_count > 1;
    if (several && take_split(charge, bytes)) return true;
    vgpu_lingering_repair(charge->device);
    return take_from_one(charge, bytes) || (several && take_split(charge, bytes));
}

void vgpu_charge_refused(struct vgpu_device *device, uint64_t bytes) {
    struct vgpu_usage_slot *slot = device->share_count ? vgpu_region_slot(&device->shares[0]) : 0;
    if (slot) {
        __atomic_fetch_add(&slot->refused, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&slot->refused_bytes, bytes, __ATOMIC_RELAXED);
    }
    vgpu_log(VGPU_LOG_WARNING, "refused %llu bytes: %llu of %llu in use", (unsigned long long)bytes,
             (unsigned long long)vgpu_device_used(device), (unsigned long long)vgpu_device_limit(device));
}

static VGPU_SELDOM void wait_until_open(const struct vgpu_region *region) {
    struct timespec nap = {0, 10000000};
    while (vgpu_region_is_paused(region)) clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
}

static inline bool try(struct vgpu_charge *charge, uint64_t bytes) {
    struct vgpu_device *device = charge->device;
    for (unsigned i = 0; i < device->share_count; i++)
        if (VGPU_UNLIKELY(vgpu_region_is_paused(&device->shares[i]))) wait_until_open(&device->shares[i]);
    if (VGPU_UNLIKELY(device->refuses)) return false;
    return bytes == 0 || VGPU_LIKELY(take_from_one(charge, bytes)) || take_with_effort(charge, bytes);
}

static VGPU_SELDOM bool reclaim_or_refuse(struct vgpu_charge *charge, uint64_t bytes) {
    struct vgpu_device *device = charge->device;
    if (!device->refuses && vgpu_reserves_reclaim(device) && try(charge, bytes)) return true;
    vgpu_charge_refused(device, bytes);
    return false;
}

bool vgpu_charge(struct vgpu_charge *charge, struct vgpu_device *device, uint64_t bytes, enum vgpu_kind kind) {
    charge->device = device;
    charge->kind = kind;
    charge->payers = 0;
    return !device || VGPU_LIKELY(try(charge, bytes)) || reclaim_or_refuse(charge, bytes);
}

bool vgpu_charge_try(struct vgpu_charge *charge, uint64_t bytes) { return !charge->device || try(charge, bytes); }

bool vgpu_charge_grow(struct vgpu_charge *charge, uint64_t bytes) {
    bool fits = vgpu_charge_try(charge, bytes);
    if (!fits) vgpu_charge_refused(charge->device, bytes);
    return fits;
}

void vgpu_charge_shrink(struct vgpu_charge *charge, uint64_t bytes) {
    if (VGPU_UNLIKELY(charge->kind == VGPU_KIND_SWAP)) {
        vgpu_swap_end(charge, bytes);
        return;
    }
    for (unsigned i = charge->device ? charge->payers : 0; i-- > 0 && bytes;) {
        uint64_t part = bytes < charge->parts[i] ? bytes : charge->parts[i];
        vgpu_region_give(&charge->device->shares[i], part, charge->kind);
        charge->parts[i] -= part;
        bytes -= part;
    }
}

void vgpu_charge_end(struct vgpu_charge *charge) { vgpu_charge_shrink(charge, UINT64_MAX); }
