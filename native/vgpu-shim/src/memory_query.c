/* What a program is told about memory: its share, not the card. */
#include "cards.h"
#include "charge.h"

CUresult vgpu_mem_get_info(enum vgpu_function id, size_t *free, size_t *total) {
    CUresult result = REAL_AS(cuMemGetInfo_v2, id)(free, total);
    struct vgpu_device *device = result == CUDA_SUCCESS && free && total ? vgpu_card_of_current_context() : 0;
    if (!device || !device->share_count) return result;
    uint64_t limit = vgpu_device_limit(device), used = vgpu_device_used(device);
    uint64_t left = limit > used ? limit - used : 0;
    if (left < *free) *free = left;
    if (limit < *total) *total = limit;
    return result;
}

static unsigned in_32_bits(uint64_t bytes) { return bytes > UINT32_MAX ? UINT32_MAX : (unsigned)bytes; }

CUresult vgpu_mem_get_info_v1(enum vgpu_function id, unsigned *free, unsigned *total) {
    CUresult result = REAL_AS(cuMemGetInfo, id)(free, total);
    struct vgpu_device *device = result == CUDA_SUCCESS && free && total ? vgpu_card_of_current_context() : 0;
    if (!device || !device->share_count) return result;
    uint64_t limit = vgpu_device_limit(device), used = vgpu_device_used(device);
    unsigned left = in_32_bits(limit > used ? limit - used : 0);
    if (left < *free) *free = left;
    if (limit < *total) *total = in_32_bits(limit);
    return result;
}

CUresult vgpu_device_total_mem(enum vgpu_function id, size_t *bytes, CUdevice ordinal) {
    CUresult result = REAL_AS(cuDeviceTotalMem_v2, id)(bytes, ordinal);
    struct vgpu_device *device = result == CUDA_SUCCESS && bytes ? vgpu_card_of_ordinal(ordinal) : 0;
    if (device && device->share_count && vgpu_device_limit(device) < *bytes) *bytes = vgpu_device_limit(device);
    return result;
}

CUresult vgpu_device_total_mem_v1(enum vgpu_function id, unsigned *bytes, CUdevice ordinal) {
    CUresult result = REAL_AS(cuDeviceTotalMem, id)(bytes, ordinal);
    struct vgpu_device *device = result == CUDA_SUCCESS && bytes ? vgpu_card_of_ordinal(ordinal) : 0;
    if (device && device->share_count && vgpu_device_limit(device) < *bytes)
        *bytes = in_32_bits(vgpu_device_limit(device));
    return result;
}
