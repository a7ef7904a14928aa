/* Virtual memory management: physical memory lives until its handle is released as often as it was retained
 * and its last mapping is gone. */
#include <stdlib.h>
#include <string.h>

#include "attachments.h"
#include "holdings.h"
#include "pools.h"

struct vgpu_physical {
    struct vgpu_charge charge; /* of no card: a multicast object, which has no memory of its own */
    uint32_t references;       /* handles, mappings, attachments */
    uint64_t object;           /* the multicast object's handle; 0: this is memory */
};

static struct vgpu_lock references_lock;
static uint64_t charged_total_of[VGPU_MAX_DEVICES];

static uint64_t *total_of(const struct vgpu_device *device) {
    unsigned count;
    return &charged_total_of[device - vgpu_all_devices(&count)];
}

/* Drops one reference; ends the charge behind the last, or drops what was bound to an object. */
void vgpu_physical_drop(struct vgpu_physical *physical) {
    vgpu_lock(&references_lock);
    bool last = --physical->references == 0;
    vgpu_unlock(&references_lock);
    if (!last) return;
    if (physical->object) vgpu_detach(physical->object, 0);
    else __atomic_fetch_sub(total_of(physical->charge.device), vgpu_charged_bytes(&physical->charge), __ATOMIC_RELAXED);
    vgpu_charge_end(&physical->charge);
    free(physical);
}

static void add_reference(struct vgpu_physical *physical) {
    vgpu_lock(&references_lock);
    physical->references++;
    vgpu_unlock(&references_lock);
}

/* `size` is a mapping's length, or how many releases are due under a handle's number. */
static void enter(struct vgpu_ledger *ledger, uint64_t key, struct vgpu_physical *physical, uint64_t size) {
    struct vgpu_holding holding;
    memset(&holding, 0, sizeof holding);
    holding.record = physical;
    holding.size = size;
    vgpu_ledger_put(ledger, key, &holding);
}

static struct vgpu_device *card_of(const CUmemAllocationProp *wanted) {
    return wanted->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? vgpu_card_of_ordinal(wanted->location.id) : 0;
}

CUresult vgpu_mem_create(enum vgpu_function id, CUmemGenericAllocationHandle *handle, size_t size,
                         const CUmemAllocationProp *wanted, unsigned long long flags) {
    struct vgpu_device *device = handle && wanted ? card_of(wanted) : 0;
    struct vgpu_physical *physical = device ? calloc(1, sizeof *physical) : 0;
    if (device && !physical) return CUDA_ERROR_OUT_OF_MEMORY;
    if (physical && !vgpu_charge(&physical->charge, device, size, VGPU_KIND_BUFFER)) {
        free(physical);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    CUresult result = REAL_AS(cuMemCreate, id)(handle, size, wanted, flags);
    if (!physical) return result;
    if (result != CUDA_SUCCESS) {
        vgpu_charge_end(&physical->charge);
        free(physical);
        return result;
    }
    physical->references = 1;
    __atomic_fetch_add(total_of(device), size, __ATOMIC_RELAXED);
    enter(&vgpu_handles, *handle, physical, 1);
    return result;
}

CUresult vgpu_mem_release(enum vgpu_function id, CUmemGenericAllocationHandle handle) {
    struct vgpu_holding holding;
    bool known = vgpu_ledger_take(&vgpu_handles, handle, &holding);
    CUresult result = REAL_AS(cuMemRelease, id)(handle);
    if (!known) return result;
    if (result == CUDA_SUCCESS) holding.size--;
    if (holding.size) vgpu_ledger_put(&vgpu_handles, handle, &holding);
    if (result == CUDA_SUCCESS) vgpu_physical_drop(holding.record);
    return result;
}

CUresult vgpu_mem_map(enum vgpu_function id, CUdeviceptr address, size_t size, size_t offset,
                      CUmemGenericAllocationHandle handle, unsigned long long flags) {
    struct vgpu_holding holding;
    CUresult result = REAL_AS(cuMemMap, id)(address, size, offset, handle, flags);
    if (result != CUDA_SUCCESS || !vgpu_ledger_see(&vgpu_handles, handle, &holding)) return result;
    add_reference(holding.record);
    enter(&vgpu_maps, address, holding.record, size);
    return result;
}

CUresult vgpu_mem_unmap(enum vgpu_function id, CUdeviceptr address, size_t size) {
    struct vgpu_holding holding;
    CUresult result = REAL_AS(cuMemUnmap, id)(address, size);
    if (result != CUDA_SUCCESS) return result;
    for (CUdeviceptr at = address; at < address + size; at += holding.size) {
        if (!vgpu_ledger_take(&vgpu_maps, at, &holding) || holding.size == 0) break;
        vgpu_physical_drop(holding.record);
    }
    return result;
}

/* The handle that the driver gives may be the same number or another for the same memory. */
CUresult vgpu_mem_retain_allocation_handle(enum vgpu_function id, CUmemGenericAllocationHandle *handle, void *address) {
    struct vgpu_holding mapping, same;
    CUresult result = REAL_AS(cuMemRetainAllocationHandle, id)(handle, address);
    if (result != CUDA_SUCCESS || !vgpu_ledger_see(&vgpu_maps, (uint64_t)address, &mapping)) return result;
    add_reference(mapping.record);
    bool known = vgpu_ledger_see(&vgpu_handles, *handle, &same) && same.record == mapping.record;
    enter(&vgpu_handles, *handle, mapping.record, known ? same.size + 1 : 1);
    return result;
}

static struct vgpu_physical *with_reference(struct vgpu_ledger *ledger, uint64_t key) {
    struct vgpu_holding holding;
    if (!vgpu_ledger_see(ledger, key, &holding)) return 0;
    add_reference(holding.record);
    return holding.record;
}

struct vgpu_physical *vgpu_physical_of_handle(CUmemGenericAllocationHandle handle) {
    return with_reference(&vgpu_handles, handle);
}

struct vgpu_physical *vgpu_physical_of_address(CUdeviceptr address) { return with_reference(&vgpu_maps, address); }

struct vgpu_device *vgpu_physical_card(const struct vgpu_physical *memory) { return memory->charge.device; }

/* Whether this process made the object or imported it: what it bound itself goes with its last reference here. */
void vgpu_physical_know_object(CUmemGenericAllocationHandle handle) {
    struct vgpu_holding known;
    struct vgpu_physical *object = vgpu_ledger_see(&vgpu_handles, handle, &known) ? 0 : calloc(1, sizeof *object);
    if (!object) return;
    object->references = 1;
    object->object = handle;
    enter(&vgpu_handles, handle, object, 1);
}

uint64_t vgpu_physical_bytes(const struct vgpu_device *device) {
    return __atomic_load_n(total_of(device), __ATOMIC_RELAXED);
}

void vgpu_physical_forget(void) {
    memset(&references_lock, 0, sizeof references_lock);
    memset(charged_total_of, 0, sizeof charged_total_of);
}
