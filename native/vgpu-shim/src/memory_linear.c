/* cuMemAlloc and its kin: memory with one address, from allocation to free. */
#include "holdings.h"
#include "pools.h"
#include "swap.h"

#define PITCH_GUESS 512u /* what rows are padded to on known cards; the driver's own answer corrects it */

/* The share has room and the card has none: others may be on it who are not held to anything. */
static CUresult or_from_host(CUresult result, CUdeviceptr *address, size_t size, const struct vgpu_holding *holding) {
    if (VGPU_LIKELY(result != CUDA_ERROR_OUT_OF_MEMORY) || !holding->charge.device) return result;
    return vgpu_swap_alloc(address, size);
}

CUresult vgpu_mem_alloc(enum vgpu_function id, CUdeviceptr *address, size_t size) {
    struct vgpu_holding holding;
    if (!address) return REAL_AS(cuMemAlloc_v2, id)(address, size);
    if (!vgpu_hold(&holding, size, VGPU_KIND_BUFFER)) return vgpu_swap_alloc(address, size);
    CUresult result = REAL_AS(cuMemAlloc_v2, id)(address, size);
    vgpu_settle(&vgpu_linear, result, *address, &holding);
    return or_from_host(result, address, size, &holding);
}

CUresult vgpu_mem_alloc_v1(enum vgpu_function id, CUdeviceptr_v1 *address, unsigned size) {
    struct vgpu_holding holding;
    if (!address) return REAL_AS(cuMemAlloc, id)(address, size);
    if (!vgpu_hold(&holding, size, VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuMemAlloc, id)(address, size);
    return vgpu_settle(&vgpu_linear, result, *address, &holding);
}

CUresult vgpu_mem_alloc_managed(enum vgpu_function id, CUdeviceptr *address, size_t size, unsigned flags) {
    struct vgpu_holding holding;
    if (!address) return REAL_AS(cuMemAllocManaged, id)(address, size, flags);
    if (!vgpu_hold(&holding, size, VGPU_KIND_MANAGED)) return vgpu_swap_alloc(address, size);
    CUresult result = REAL_AS(cuMemAllocManaged, id)(address, size, flags);
    return vgpu_settle(&vgpu_linear, result, *address, &holding);
}

static uint64_t pitched(uint64_t width, uint64_t height) {
    uint64_t bytes, rows = (width + PITCH_GUESS - 1) / PITCH_GUESS * PITCH_GUESS;
    return __builtin_mul_overflow(rows, height, &bytes) ? UINT64_MAX : bytes;
}

/* Makes the charge what the driver really took; false: that is over the limit. */
static bool correct(struct vgpu_holding *holding, uint64_t bytes) {
    uint64_t guessed = holding->size;
    holding->size = bytes;
    if (bytes <= guessed) {
        vgpu_charge_shrink(&holding->charge, guessed - bytes);
        return true;
    }
    return vgpu_charge_grow(&holding->charge, bytes - guessed);
}

static CUresult pitched_from_host(CUdeviceptr *address, size_t *pitch, size_t width, size_t height) {
    CUresult result = vgpu_swap_alloc(address, pitched(width, height));
    if (result == CUDA_SUCCESS) *pitch = pitched(width, 1);
    return result;
}

CUresult vgpu_mem_alloc_pitch(enum vgpu_function id, CUdeviceptr *address, size_t *pitch, size_t width, size_t height,
                              unsigned element) {
    struct vgpu_holding holding;
    if (!address || !pitch) return REAL_AS(cuMemAllocPitch_v2, id)(address, pitch, width, height, element);
    if (!vgpu_hold(&holding, pitched(width, height), VGPU_KIND_BUFFER)) return pitched_from_host(address, pitch, width, height);
    CUresult result = REAL_AS(cuMemAllocPitch_v2, id)(address, pitch, width, height, element);
    if (result == CUDA_SUCCESS && holding.charge.device && !correct(&holding, *pitch * height)) {
        REAL(cuMemFree_v2)(*address);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return vgpu_settle(&vgpu_linear, result, *address, &holding);
}

CUresult vgpu_mem_alloc_pitch_v1(enum vgpu_function id, CUdeviceptr_v1 *address, unsigned *pitch, unsigned width,
                                 unsigned height, unsigned element) {
    struct vgpu_holding holding;
    if (!address || !pitch) return REAL_AS(cuMemAllocPitch, id)(address, pitch, width, height, element);
    if (!vgpu_hold(&holding, pitched(width, height), VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuMemAllocPitch, id)(address, pitch, width, height, element);
    if (result == CUDA_SUCCESS && holding.charge.device && !correct(&holding, (uint64_t)*pitch * height)) {
        REAL(cuMemFree)(*address);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return vgpu_settle(&vgpu_linear, result, *address, &holding);
}

static CUresult free_now(void *address) { return REAL(cuMemFree_v2)(*(CUdeviceptr *)address); }

CUresult vgpu_mem_free(enum vgpu_function id, CUdeviceptr address) {
    bool pooled = false;
    (void)id;
    CUresult result = vgpu_free_pooled(address, free_now, &address, &pooled);
    return pooled ? result : vgpu_release(&vgpu_linear, address, free_now, &address);
}

static CUresult free_now_v1(void *address) { return REAL(cuMemFree)(*(CUdeviceptr_v1 *)address); }

CUresult vgpu_mem_free_v1(enum vgpu_function id, CUdeviceptr_v1 address) {
    (void)id;
    return vgpu_release(&vgpu_linear, address, free_now_v1, &address);
}
