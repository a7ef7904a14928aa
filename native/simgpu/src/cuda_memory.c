/*
 * Plain allocations: device, pitched, managed and host memory, and what can be asked about a pointer.
 */
#include "cuda_api.h"

#include <string.h>

static uint64_t rounded(uint64_t bytes) {
    return (bytes + SIMGPU_ROUND - 1) & ~(SIMGPU_ROUND - 1);
}

static CUresult allocate(CUdeviceptr *address, size_t bytes, enum simgpu_memory_kind kind, unsigned flags) {
    CUcontext context = simgpu_current();
    SIMGPU_NEED(address && bytes, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(bytes < 1ull << 46, CUDA_ERROR_OUT_OF_MEMORY);
    struct simgpu_block wanted = {.size = bytes, .kind = kind, .card = context->card, .context = context};
    wanted.charged = kind == SIMGPU_HOST ? 0 : rounded(bytes);
    wanted.flags = flags;
    return simgpu_allocate(&wanted, address);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    SIMGPU_ENTER();
    if (simgpu_counting_only)
        return simgpu_count_allocation(address, bytes);
    return allocate(address, bytes, SIMGPU_DEVICE, 0);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned int element) {
    SIMGPU_ENTER();
    SIMGPU_NEED(pitch && (element == 4 || element == 8 || element == 16), CUDA_ERROR_INVALID_VALUE);
    *pitch = rounded(width);
    return allocate(address, *pitch * height, SIMGPU_DEVICE, 0);
}

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(address && bytes, CUDA_ERROR_INVALID_VALUE);
    return simgpu_new_managed(address, bytes, flags);
}

static CUresult release(CUdeviceptr address, enum simgpu_memory_kind first, enum simgpu_memory_kind last) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->base == address, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(block->kind >= first && block->kind <= last, CUDA_ERROR_INVALID_VALUE);
    block = simgpu_take_block(address);
    return block ? simgpu_release_block(block) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
    SIMGPU_ENTER();
    if (!address)
        return CUDA_SUCCESS;
    if (simgpu_counting_only && simgpu_count_free(address))
        return CUDA_SUCCESS;
    struct simgpu_block *block = simgpu_find_block(address);
    if (block && block->kind == SIMGPU_POOLED)
        return cuMemFreeAsync(address, NULL);
    if (block && block->kind == SIMGPU_GRAPH)
        return simgpu_unback_graph_memory(address);
    return release(address, SIMGPU_DEVICE, SIMGPU_MANAGED);
}

CUresult cuMemAllocHost_v2(void **out, size_t bytes) {
    SIMGPU_ENTER();
    return allocate((CUdeviceptr *)out, bytes, SIMGPU_HOST, 0);
}

CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned int flags) {
    SIMGPU_ENTER();
    return allocate((CUdeviceptr *)out, bytes, SIMGPU_HOST, flags);
}

CUresult cuMemFreeHost(void *address) {
    SIMGPU_ENTER();
    return release((CUdeviceptr)address, SIMGPU_HOST, SIMGPU_HOST);
}

CUresult cuMemHostRegister_v2(void *address, size_t bytes, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(address && bytes, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(simgpu_current(), CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(!simgpu_find_block((uint64_t)address), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    struct simgpu_block *block = simgpu_new_block();
    SIMGPU_NEED(block, CUDA_ERROR_OUT_OF_MEMORY);
    block->base = (uint64_t)address;
    block->size = bytes;
    block->kind = SIMGPU_REGISTERED;
    block->card = simgpu_current()->card;
    block->context = simgpu_current();
    block->flags = flags;
    simgpu_adopt_block(block);
    return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void *address) {
    SIMGPU_ENTER();
    CUresult result = release((CUdeviceptr)address, SIMGPU_REGISTERED, SIMGPU_REGISTERED);
    return result == CUDA_SUCCESS ? result : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *host, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(address && flags == 0 && simgpu_find_block((uint64_t)host), CUDA_ERROR_INVALID_VALUE);
    *address = (CUdeviceptr)host;
    return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned int *flags, void *host) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block((uint64_t)host);
    SIMGPU_NEED(flags && block, CUDA_ERROR_INVALID_VALUE);
    *flags = block->flags;
    return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    SIMGPU_ENTER();
    CUcontext context = simgpu_current();
    SIMGPU_NEED(free_bytes && total, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    if (!simgpu_counting_only)
        simgpu_reap();
    uint64_t memory = simgpu->cards[context->card].facts.memory, used = simgpu->cards[context->card].used;
    *total = memory;
    *free_bytes = used < memory ? memory - used : 0;
    return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr address) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block, CUDA_ERROR_NOT_FOUND);
    if (base)
        *base = block->base;
    if (size)
        *size = block->size;
    return CUDA_SUCCESS;
}

static CUresult attribute_of(const struct simgpu_block *block, CUpointer_attribute attribute, uint64_t address,
                             void *out) {
    bool host = block->kind == SIMGPU_HOST || block->kind == SIMGPU_REGISTERED;
    switch ((int)attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: *(CUcontext *)out = block->context; break;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned *)out = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *(CUdeviceptr *)out = address; break;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        SIMGPU_NEED(host || block->kind == SIMGPU_MANAGED, CUDA_ERROR_INVALID_VALUE);
        *(void **)out = (void *)address;
        break;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS: *(unsigned *)out = 0; break;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: *(unsigned long long *)out = block->id; break;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: *(unsigned *)out = block->kind == SIMGPU_MANAGED; break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *(int *)out = simgpu_ordinal(block->card); break;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: *(unsigned *)out = block->kind == SIMGPU_DEVICE; break;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: *(CUdeviceptr *)out = block->base; break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE: *(size_t *)out = block->size; break;
    case CU_POINTER_ATTRIBUTE_MAPPED: *(unsigned *)out = 1; break;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES: *(unsigned *)out = 0; break;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *(void **)out = block->kind == SIMGPU_POOLED ? block->owner : NULL;
        break;
    default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *out, CUpointer_attribute attribute, CUdeviceptr address) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(out && block, CUDA_ERROR_INVALID_VALUE);
    return attribute_of(block, attribute, address, out);
}

/* Unlike the single query, an address that the driver does not know gives zeros and success. */
CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **out, CUdeviceptr address) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block(address);
    for (unsigned at = 0; at < count; at++) {
        if (block && attribute_of(block, attributes[at], address, out[at]) == CUDA_SUCCESS)
            continue;
        if (attributes[at] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
            *(int *)out[at] = -2;
        else if (attributes[at] == CU_POINTER_ATTRIBUTE_CONTEXT || attributes[at] == CU_POINTER_ATTRIBUTE_DEVICE_POINTER ||
                 attributes[at] == CU_POINTER_ATTRIBUTE_HOST_POINTER)
            memset(out[at], 0, sizeof(void *));
        else
            memset(out[at], 0, sizeof(unsigned));
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    SIMGPU_ENTER();
    SIMGPU_NEED(value && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, CUDA_ERROR_INVALID_VALUE);
    return simgpu_find_block(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
