/* What a program is told about memory: its share, not the card. Where the share may swap, the two sum up. */
#include "cards.h"
#include "charge.h"
#include "swap.h"

static uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

void vgpu_narrow(const struct vgpu_device *device, struct vgpu_memory_view *view) {
    uint64_t limit = vgpu_device_limit(device), swap = vgpu_swap_limit(device);
    view->free = lesser(view->free, minus(limit, vgpu_device_used(device)));
    view->total = lesser(view->total, limit);
    if (VGPU_LIKELY(!swap)) return;
    view->free += minus(swap, vgpu_swap_used(device));
    view->total += swap;
}

CUresult vgpu_mem_get_info(enum vgpu_function id, size_t *free, size_t *total) {
    CUresult result = REAL_AS(cuMemGetInfo_v2, id)(free, total);
    struct vgpu_device *device = result == CUDA_SUCCESS && free && total ? vgpu_card_of_current_context() : 0;
    if (!device || !device->share_count) return result;
    struct vgpu_memory_view view = {*total, *free};
    vgpu_narrow(device, &view);
    *total = view.total;
    *free = view.free;
    return result;
}

static unsigned in_32_bits(uint64_t bytes) { return bytes > UINT32_MAX ? UINT32_MAX : (unsigned)bytes; }

/* What does not fit the figure is the largest figure, so what is left of it can only be said from the share. */
CUresult vgpu_mem_get_info_v1(enum vgpu_function id, unsigned *free, unsigned *total) {
    CUresult result = REAL_AS(cuMemGetInfo, id)(free, total);
    struct vgpu_device *device = result == CUDA_SUCCESS && free && total ? vgpu_card_of_current_context() : 0;
    if (!device || !device->share_count) return result;
    struct vgpu_memory_view view = {*total, *free};
    vgpu_narrow(device, &view);
    *total = in_32_bits(view.total);
    *free = in_32_bits(view.free);
    return result;
}

static uint64_t narrowed_total(const struct vgpu_device *device, uint64_t total) {
    struct vgpu_memory_view view = {total, 0};
    vgpu_narrow(device, &view);
    return view.total;
}

CUresult vgpu_device_total_mem(enum vgpu_function id, size_t *bytes, CUdevice ordinal) {
    CUresult result = REAL_AS(cuDeviceTotalMem_v2, id)(bytes, ordinal);
    struct vgpu_device *device = result == CUDA_SUCCESS && bytes ? vgpu_card_of_ordinal(ordinal) : 0;
    if (device && device->share_count) *bytes = narrowed_total(device, *bytes);
    return result;
}

CUresult vgpu_device_total_mem_v1(enum vgpu_function id, unsigned *bytes, CUdevice ordinal) {
    CUresult result = REAL_AS(cuDeviceTotalMem, id)(bytes, ordinal);
    struct vgpu_device *device = result == CUDA_SUCCESS && bytes ? vgpu_card_of_ordinal(ordinal) : 0;
    if (device && device->share_count) *bytes = in_32_bits(narrowed_total(device, *bytes));
    return result;
}
