/* Sparse arrays and multicast objects: both keep physical memory alive whose handle was released. */
#include <string.h>

#include "attachments.h"
#include "cards.h"

#define TAIL (1ull << 63) /* of a plane's number: the small levels together */

static void part_of(const CUarrayMapInfo *info, struct vgpu_part *part) {
    memset(part, 0, sizeof *part);
    if (info->subresourceType != CU_ARRAY_SPARSE_SUBRESOURCE_TYPE_SPARSE_LEVEL) {
        part->plane = TAIL | info->subresource.miptail.layer;
        part->start[0] = info->subresource.miptail.offset;
        part->extent[0] = info->subresource.miptail.size;
        return;
    }
    part->plane = (uint64_t)info->subresource.sparseLevel.level << 32 | info->subresource.sparseLevel.layer;
    part->start[0] = info->subresource.sparseLevel.offsetX;
    part->start[1] = info->subresource.sparseLevel.offsetY;
    part->start[2] = info->subresource.sparseLevel.offsetZ;
    part->extent[0] = info->subresource.sparseLevel.extentWidth;
    part->extent[1] = info->subresource.sparseLevel.extentHeight;
    part->extent[2] = info->subresource.sparseLevel.extentDepth;
}

static uint64_t array_of(const CUarrayMapInfo *info) { return (uint64_t)info->resource.array | VGPU_ARRAY_OBJECT; }

CUresult vgpu_mem_map_array_async(enum vgpu_function id, CUarrayMapInfo *list, unsigned count, CUstream stream) {
    struct vgpu_part part;
    CUresult result = REAL_AS(cuMemMapArrayAsync, id)(list, count, stream);
    for (unsigned i = 0; result == CUDA_SUCCESS && i < count; i++) {
        bool maps = list[i].memOperationType == CU_MEM_OPERATION_TYPE_MAP && list[i].memHandle.memHandle;
        struct vgpu_physical *memory = maps ? vgpu_physical_of_handle(list[i].memHandle.memHandle) : 0;
        part_of(&list[i], &part);
        if (memory) vgpu_attach(array_of(&list[i]), &part, memory);
        else vgpu_detach(array_of(&list[i]), &part);
    }
    return result;
}

static void bound(CUmemGenericAllocationHandle object, uint64_t offset, uint64_t size, struct vgpu_physical *memory) {
    struct vgpu_part part;
    if (!memory) return;
    memset(&part, 0, sizeof part);
    part.plane = (uint64_t)vgpu_physical_card(memory);
    part.start[0] = offset;
    part.extent[0] = size;
    vgpu_physical_know_object(object);
    vgpu_attach(object, &part, memory);
}

CUresult vgpu_multicast_bind_mem(enum vgpu_function id, CUmemGenericAllocationHandle object, size_t offset,
                                 CUmemGenericAllocationHandle memory, size_t memory_offset, size_t size,
                                 unsigned long long flags) {
    CUresult result = REAL_AS(cuMulticastBindMem, id)(object, offset, memory, memory_offset, size, flags);
    if (result == CUDA_SUCCESS) bound(object, offset, size, vgpu_physical_of_handle(memory));
    return result;
}

CUresult vgpu_multicast_bind_mem_v2(enum vgpu_function id, CUmemGenericAllocationHandle object, CUdevice ordinal,
                                    size_t offset, CUmemGenericAllocationHandle memory, size_t memory_offset,
                                    size_t size, unsigned long long flags) {
    CUresult result = REAL_AS(cuMulticastBindMem_v2, id)(object, ordinal, offset, memory, memory_offset, size, flags);
    if (result == CUDA_SUCCESS) bound(object, offset, size, vgpu_physical_of_handle(memory));
    return result;
}

CUresult vgpu_multicast_bind_addr(enum vgpu_function id, CUmemGenericAllocationHandle object, size_t offset,
                                  CUdeviceptr address, size_t size, unsigned long long flags) {
    CUresult result = REAL_AS(cuMulticastBindAddr, id)(object, offset, address, size, flags);
    if (result == CUDA_SUCCESS) bound(object, offset, size, vgpu_physical_of_address(address));
    return result;
}

CUresult vgpu_multicast_bind_addr_v2(enum vgpu_function id, CUmemGenericAllocationHandle object, CUdevice ordinal,
                                     size_t offset, CUdeviceptr address, size_t size, unsigned long long flags) {
    CUresult result = REAL_AS(cuMulticastBindAddr_v2, id)(object, ordinal, offset, address, size, flags);
    if (result == CUDA_SUCCESS) bound(object, offset, size, vgpu_physical_of_address(address));
    return result;
}

CUresult vgpu_multicast_unbind(enum vgpu_function id, CUmemGenericAllocationHandle object, CUdevice ordinal,
                               size_t offset, size_t size) {
    struct vgpu_part part;
    CUresult result = REAL_AS(cuMulticastUnbind, id)(object, ordinal, offset, size);
    if (result != CUDA_SUCCESS) return result;
    memset(&part, 0, sizeof part);
    part.plane = (uint64_t)vgpu_card_of_ordinal(ordinal);
    part.start[0] = offset;
    part.extent[0] = size;
    vgpu_detach(object, &part);
    return result;
}
