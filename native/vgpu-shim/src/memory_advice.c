/* Advice and prefetches: memory that was put into the host because the share's part of the card is used up
 * stays there. They are hints, so one that is not followed is no error. */
#include "swap.h"

CUresult vgpu_mem_advise(enum vgpu_function id, CUdeviceptr address, size_t size, CUmem_advise advice, CUdevice place) {
    return vgpu_is_swapped(address) ? CUDA_SUCCESS : REAL_AS(cuMemAdvise, id)(address, size, advice, place);
}

CUresult vgpu_mem_advise_v2(enum vgpu_function id, CUdeviceptr address, size_t size, CUmem_advise advice,
                            CUmemLocation place) {
    return vgpu_is_swapped(address) ? CUDA_SUCCESS : REAL_AS(cuMemAdvise_v2, id)(address, size, advice, place);
}

CUresult vgpu_mem_prefetch(enum vgpu_function id, CUdeviceptr address, size_t size, CUdevice place, CUstream stream) {
    return vgpu_is_swapped(address) ? CUDA_SUCCESS : REAL_AS(cuMemPrefetchAsync, id)(address, size, place, stream);
}

CUresult vgpu_mem_prefetch_v2(enum vgpu_function id, CUdeviceptr address, size_t size, CUmemLocation place,
                              unsigned flags, CUstream stream) {
    return vgpu_is_swapped(address) ? CUDA_SUCCESS
                                    : REAL_AS(cuMemPrefetchAsync_v2, id)(address, size, place, flags, stream);
}

static bool any_swapped(const CUdeviceptr *addresses, size_t count) {
    for (size_t i = 0; addresses && i < count; i++)
        if (vgpu_is_swapped(addresses[i])) return true;
    return false;
}

CUresult vgpu_mem_prefetch_batch(enum vgpu_function id, CUdeviceptr *addresses, size_t *sizes, size_t count,
                                 CUmemLocation *places, size_t *place_of, size_t place_count,
                                 unsigned long long flags, CUstream stream) {
    if (any_swapped(addresses, count)) return CUDA_SUCCESS;
    return REAL_AS(cuMemPrefetchBatchAsync, id)(addresses, sizes, count, places, place_of, place_count, flags, stream);
}

CUresult vgpu_mem_discard_and_prefetch_batch(enum vgpu_function id, CUdeviceptr *addresses, size_t *sizes, size_t count,
                                             CUmemLocation *places, size_t *place_of, size_t place_count,
                                             unsigned long long flags, CUstream stream) {
    if (any_swapped(addresses, count)) return CUDA_SUCCESS;
    return REAL_AS(cuMemDiscardAndPrefetchBatchAsync, id)(addresses, sizes, count, places, place_of, place_count, flags,
                                                          stream);
}
