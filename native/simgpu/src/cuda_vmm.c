/*
 * Virtual memory management: address ranges and physical allocations apart, joined by mapping.
 *
 * A physical allocation is an unlinked memory file, so that two mappings show the same bytes and its
 * descriptor can go to another process. It is charged to the process that created it, until its
 * handle and its last mapping are gone.
 */
#include "cuda_api.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GRANULARITY (2ull << 20)
#define MAX_RANGES 4096

struct physical {
    int descriptor;
    int card;
    uint64_t size, charged;
    unsigned references; /* handles and mappings */
    CUmemAllocationProp properties;
};

static struct {
    uint64_t base, size;
} ranges[MAX_RANGES];
static pthread_mutex_t vmm_lock = PTHREAD_MUTEX_INITIALIZER;

void simgpu_put_physical(struct physical *memory) {
    pthread_mutex_lock(&vmm_lock);
    bool last = --memory->references == 0;
    pthread_mutex_unlock(&vmm_lock);
    if (!last)
        return;
    if (memory->charged)
        simgpu_discharge(memory->card, memory->charged);
    close(memory->descriptor);
    free(memory);
}

void simgpu_hold_physical(struct physical *memory) {
    pthread_mutex_lock(&vmm_lock);
    memory->references++;
    pthread_mutex_unlock(&vmm_lock);
}

static int new_descriptor(uint64_t size) {
    int descriptor = (int)syscall(SYS_memfd_create, "simgpu", 1u /* MFD_CLOEXEC */);
    if (descriptor >= 0 && ftruncate(descriptor, (off_t)size) != 0) {
        close(descriptor);
        descriptor = -1;
    }
    return descriptor;
}

CUresult cuMemGetAllocationGranularity(size_t *size, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags kind) {
    SIMGPU_ENTER();
    (void)kind;
    SIMGPU_NEED(size && properties, CUDA_ERROR_INVALID_VALUE);
    *size = GRANULARITY;
    return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t size, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && properties && size && size % GRANULARITY == 0 && !flags, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE, CUDA_ERROR_NOT_SUPPORTED);
    int device = properties->location.id;
    SIMGPU_NEED(device >= 0 && device < simgpu_device_count, CUDA_ERROR_INVALID_DEVICE);
    struct physical *memory = calloc(1, sizeof *memory);
    SIMGPU_NEED(memory, CUDA_ERROR_OUT_OF_MEMORY);
    *memory = (struct physical){-1, simgpu_device_cards[device], size, size, 1, *properties};
    if (!simgpu_charge(memory->card, size)) {
        free(memory);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memory->descriptor = new_descriptor(size);
    if (memory->descriptor < 0) {
        simgpu_discharge(memory->card, size);
        free(memory);
        return CUDA_ERROR_OPERATING_SYSTEM;
    }
    *out = (CUmemGenericAllocationHandle)memory;
    return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    SIMGPU_ENTER();
    SIMGPU_NEED(handle, CUDA_ERROR_INVALID_VALUE);
    if (!simgpu_release_multicast(handle))
        simgpu_put_physical((struct physical *)handle);
    return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *out, size_t size, size_t alignment, CUdeviceptr wish, unsigned long long flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && size && size % GRANULARITY == 0 && !flags, CUDA_ERROR_INVALID_VALUE);
    alignment = alignment > GRANULARITY ? alignment : GRANULARITY;
    int mode = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *room = mmap((void *)wish, size + alignment, PROT_NONE, mode, -1, 0);
    SIMGPU_NEED(room != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
    uint64_t base = ((uint64_t)room + alignment - 1) / alignment * alignment;
    uint64_t before = base - (uint64_t)room, after = alignment - before;
    if (before)
        munmap(room, before);
    if (after)
        munmap((char *)base + size, after);
    pthread_mutex_lock(&vmm_lock);
    int place = 0;
    while (place < MAX_RANGES && ranges[place].size)
        place++;
    if (place < MAX_RANGES)
        ranges[place].base = base, ranges[place].size = size;
    pthread_mutex_unlock(&vmm_lock);
    SIMGPU_NEED(place < MAX_RANGES, CUDA_ERROR_OUT_OF_MEMORY);
    *out = base;
    return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t size) {
    SIMGPU_ENTER();
    pthread_mutex_lock(&vmm_lock);
    int place = 0;
    while (place < MAX_RANGES && !(ranges[place].base == address && ranges[place].size == size && size))
        place++;
    if (place < MAX_RANGES)
        ranges[place].base = ranges[place].size = 0;
    pthread_mutex_unlock(&vmm_lock);
    SIMGPU_NEED(place < MAX_RANGES, CUDA_ERROR_INVALID_VALUE);
    munmap((void *)address, size);
    return CUDA_SUCCESS;
}

static bool is_reserved(uint64_t address, uint64_t size) {
    bool inside = false;
    pthread_mutex_lock(&vmm_lock);
    for (int place = 0; place < MAX_RANGES && !inside; place++)
        inside = address >= ranges[place].base && address + size <= ranges[place].base + ranges[place].size;
    pthread_mutex_unlock(&vmm_lock);
    return inside;
}

CUresult cuMemMap(CUdeviceptr address, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
    SIMGPU_ENTER();
    struct physical *memory = (struct physical *)handle;
    SIMGPU_NEED(memory && size && !flags && offset + size <= memory->size, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(is_reserved(address, size) && !simgpu_find_block(address), CUDA_ERROR_INVALID_VALUE);
    struct simgpu_block *block = simgpu_new_block();
    SIMGPU_NEED(block, CUDA_ERROR_OUT_OF_MEMORY);
    int mode = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
    if (mmap((void *)address, size, PROT_NONE, mode, memory->descriptor, (off_t)offset) == MAP_FAILED) {
        free(block);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    simgpu_hold_physical(memory);
    block->base = address, block->size = size, block->kind = SIMGPU_MAPPED;
    block->card = memory->card, block->owner = memory;
    simgpu_adopt_block(block);
    return CUDA_SUCCESS;
}

static void unmap(struct simgpu_block *block) {
    int mode = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    mmap((void *)block->base, block->size, PROT_NONE, mode, -1, 0);
    simgpu_put_physical(block->owner);
    free(block);
}

CUresult cuMemUnmap(CUdeviceptr address, size_t size) {
    SIMGPU_ENTER();
    for (uint64_t at = address; at < address + size;) {
        struct simgpu_block *block = simgpu_find_block(at);
        SIMGPU_NEED(block && block->base == at && block->kind == SIMGPU_MAPPED, CUDA_ERROR_INVALID_VALUE);
        at += block->size;
        unmap(simgpu_take_block(block->base));
    }
    return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t size, const CUmemAccessDesc *list, size_t count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(list && count, CUDA_ERROR_INVALID_VALUE);
    int rights = PROT_NONE;
    if (list[0].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE)
        rights = list[0].flags == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ : PROT_READ | PROT_WRITE;
    for (uint64_t at = address; at < address + size;) {
        struct simgpu_block *block = simgpu_find_block(at);
        SIMGPU_NEED(block && block->kind == SIMGPU_MAPPED, CUDA_ERROR_INVALID_VALUE);
        block->flags = list[0].flags;
        mprotect((void *)block->base, block->size, rights);
        at = block->base + block->size;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(flags && location && block && block->kind == SIMGPU_MAPPED, CUDA_ERROR_INVALID_VALUE);
    *flags = block->flags;
    return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *properties, CUmemGenericAllocationHandle handle) {
    SIMGPU_ENTER();
    SIMGPU_NEED(properties && handle, CUDA_ERROR_INVALID_VALUE);
    *properties = ((struct physical *)handle)->properties;
    return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address) {
    SIMGPU_ENTER();
    struct simgpu_block *block = simgpu_find_block((uint64_t)address);
    SIMGPU_NEED(handle && block && block->kind == SIMGPU_MAPPED, CUDA_ERROR_INVALID_VALUE);
    simgpu_hold_physical(block->owner);
    *handle = (CUmemGenericAllocationHandle)block->owner;
    return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void *out, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType kind,
                                      unsigned long long flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && handle && !flags, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(kind == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CUDA_ERROR_NOT_SUPPORTED);
    struct physical *memory = (struct physical *)handle;
    SIMGPU_NEED(memory->properties.requestedHandleTypes & kind, CUDA_ERROR_INVALID_VALUE);
    int copy = fcntl(memory->descriptor, F_DUPFD_CLOEXEC, 0);
    SIMGPU_NEED(copy >= 0, CUDA_ERROR_OPERATING_SYSTEM);
    *(int *)out = copy;
    return CUDA_SUCCESS;
}

/* The importer is not charged: the memory is on the account of the process that created it. */
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *out, void *descriptor,
                                        CUmemAllocationHandleType kind) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && kind == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CUDA_ERROR_NOT_SUPPORTED);
    struct stat facts;
    int copy = fcntl((int)(uintptr_t)descriptor, F_DUPFD_CLOEXEC, 0);
    SIMGPU_NEED(copy >= 0 && fstat(copy, &facts) == 0, CUDA_ERROR_INVALID_VALUE);
    struct physical *memory = calloc(1, sizeof *memory);
    SIMGPU_NEED(memory, CUDA_ERROR_OUT_OF_MEMORY);
    CUcontext context = simgpu_current();
    *memory = (struct physical){.descriptor = copy, .size = (uint64_t)facts.st_size, .references = 1};
    memory->card = context ? context->card : simgpu_device_cards[0];
    memory->properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    memory->properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    memory->properties.location.id = context ? context->device : 0;
    memory->properties.requestedHandleTypes = kind;
    *out = (CUmemGenericAllocationHandle)memory;
    return CUDA_SUCCESS;
}
