/* Memory beyond the limit is managed memory whose preferred place is the host: the card reaches it over the
 * bus, it never migrates to the card, and to the program its address is like any other device address.
 *
 * A reservation adds to this process's own figure first and then looks at the sum of all slots, so racing
 * processes never exceed what the share may swap, and a dead process's part goes with its slot. */
#include "swap.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ATTEMPTS 16
#define NAP_NS 20000
#define HOST_DEVICE (-1) /* the host, where the old form of an advice names a device */

struct range {
    CUdeviceptr start;
    uint64_t size;
    struct range *next;
};

static struct range *ranges;
static struct vgpu_lock ranges_lock;

static uint64_t limit_of(const struct vgpu_region *region) {
    const struct vgpu_limits *limits = region->limits;
    return RELAXED_LOAD(&limits->flags) & VGPU_FLAG_OVERSUBSCRIBE ? RELAXED_LOAD(&limits->swap_bytes) : 0;
}

static uint64_t used_of(const struct vgpu_region *region) {
    uint64_t sum = 0;
    for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++) {
        const struct vgpu_usage_slot *slot = &region->usage->slots[n];
        if (ACQUIRE_LOAD(&slot->state) != VGPU_SLOT_FREE) sum += __atomic_load_n(&slot->swap_bytes, __ATOMIC_SEQ_CST);
    }
    return sum;
}

uint64_t vgpu_swap_limit(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++) sum += limit_of(&device->shares[i]);
    return sum;
}

uint64_t vgpu_swap_used(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++)
        if (limit_of(&device->shares[i])) sum += used_of(&device->shares[i]);
    return sum;
}

static bool take(struct vgpu_region *region, uint64_t bytes) {
    uint64_t limit = limit_of(region);
    struct timespec nap = {0, NAP_NS};
    struct vgpu_usage_slot *slot = bytes <= limit ? vgpu_region_slot(region) : 0;
    for (unsigned attempt = 0; slot && attempt < ATTEMPTS; attempt++) {
        __atomic_fetch_add(&slot->swap_bytes, bytes, __ATOMIC_SEQ_CST);
        if (used_of(region) <= limit) return true;
        __atomic_fetch_sub(&slot->swap_bytes, bytes, __ATOMIC_SEQ_CST);
        if (used_of(region) + bytes > limit) return false;
        nap.tv_nsec = NAP_NS + (long)((vgpu_now_ns() >> 4) % NAP_NS); /* two that met try again apart */
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
    }
    return false;
}

static bool reserve(struct vgpu_charge *charge, struct vgpu_device *device, uint64_t bytes) {
    memset(charge, 0, sizeof *charge);
    charge->device = device;
    charge->kind = VGPU_KIND_SWAP;
    for (unsigned i = 0; i < device->share_count; i++) {
        if (!take(&device->shares[i], bytes)) continue;
        charge->parts[i] = bytes;
        charge->payers = i + 1;
        return true;
    }
    return false;
}

void vgpu_swap_end(struct vgpu_charge *charge, uint64_t bytes) {
    for (unsigned i = 0; i < charge->payers && bytes; i++) {
        struct vgpu_usage_slot *slot = ACQUIRE_LOAD(&charge->device->shares[i].slot);
        uint64_t part = bytes < charge->parts[i] ? bytes : charge->parts[i];
        if (slot) __atomic_fetch_sub(&slot->swap_bytes, part, __ATOMIC_SEQ_CST);
        charge->parts[i] -= part;
        bytes -= part;
    }
}

static CUresult advise(CUdeviceptr address, uint64_t bytes, unsigned advice, bool host, CUdevice ordinal) {
    if (!vgpu_is_available(VGPU_cuMemAdvise_v2))
        return REAL(cuMemAdvise)(address, bytes, advice, host ? HOST_DEVICE : ordinal);
    CUmemLocation place;
    memset(&place, 0, sizeof place);
    place.type = host ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
    place.id = host ? 0 : ordinal;
    return REAL(cuMemAdvise_v2)(address, bytes, advice, place);
}

/* Without the advice the memory would migrate to the card: then there is none. That the card maps it at once
 * saves faults, and is not needed. */
static CUresult allocate(CUdeviceptr *address, uint64_t bytes, CUdevice ordinal) {
    CUresult result = REAL(cuMemAllocManaged)(address, bytes, CU_MEM_ATTACH_GLOBAL);
    if (result != CUDA_SUCCESS) return result;
    if (advise(*address, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, true, ordinal) != CUDA_SUCCESS) {
        REAL(cuMemFree_v2)(*address);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    advise(*address, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, false, ordinal);
    return CUDA_SUCCESS;
}

static bool remember(CUdeviceptr start, uint64_t size) {
    struct range *range = malloc(sizeof *range);
    if (!range) return false;
    range->start = start;
    range->size = size;
    vgpu_lock(&ranges_lock);
    range->next = ranges;
    __atomic_store_n(&ranges, range, __ATOMIC_RELEASE);
    vgpu_unlock(&ranges_lock);
    return true;
}

bool vgpu_is_swapped(CUdeviceptr address) {
    bool found = false;
    if (VGPU_LIKELY(!ACQUIRE_LOAD(&ranges))) return false;
    vgpu_lock(&ranges_lock);
    for (struct range *range = ranges; range && !found; range = range->next)
        found = address - range->start < range->size;
    vgpu_unlock(&ranges_lock);
    return found;
}

void vgpu_swap_forget_range(CUdeviceptr address) {
    struct range *gone = 0;
    vgpu_lock(&ranges_lock);
    for (struct range **at = &ranges; *at; at = &(*at)->next) {
        if ((*at)->start != address) continue;
        gone = *at;
        *at = gone->next;
        break;
    }
    vgpu_unlock(&ranges_lock);
    free(gone);
}

void vgpu_swap_forget(void) {
    ranges = 0;
    memset(&ranges_lock, 0, sizeof ranges_lock);
}

CUresult vgpu_swap_alloc(CUdeviceptr *address, uint64_t bytes) {
    struct vgpu_holding holding;
    CUdevice ordinal;
    struct vgpu_device *device = vgpu_card_of_current_context();
    if (!device || !bytes || !vgpu_swap_limit(device)) return CUDA_ERROR_OUT_OF_MEMORY;
    memset(&holding, 0, sizeof holding);
    holding.size = bytes;
    REAL(cuCtxGetDevice)(&ordinal);
    REAL(cuCtxGetCurrent)(&holding.context);
    if (!reserve(&holding.charge, device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = allocate(address, bytes, ordinal);
    if (result == CUDA_SUCCESS && !remember(*address, bytes)) {
        REAL(cuMemFree_v2)(*address);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return vgpu_settle(&vgpu_linear, result, *address, &holding);
}
