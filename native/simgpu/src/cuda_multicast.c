/*
 * Multicast objects: one address that reaches memory of several cards. Binding keeps memory alive until it
 * is unbound or the object is released. Mapping a multicast object is not simulated.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdlib.h>

#define GRANULARITY (2ull << 20)
#define MOST_BINDINGS 64
#define MOST_OBJECTS 64

struct multicast {
    size_t size;
    unsigned devices, joined;
    struct {
        struct physical *memory;
        size_t offset, size;
    } bindings[MOST_BINDINGS];
};

static struct multicast *objects[MOST_OBJECTS];
static pthread_mutex_t objects_lock = PTHREAD_MUTEX_INITIALIZER;

/* With the lock held: the place of a handle, or MOST_OBJECTS. */
static int place_of(CUmemGenericAllocationHandle handle) {
    int place = 0;
    while (place < MOST_OBJECTS && (!handle || objects[place] != (struct multicast *)handle))
        place++;
    return place;
}

CUresult cuMulticastGetGranularity(size_t *size, const CUmulticastObjectProp *wanted, CUmulticastGranularity_flags kind) {
    SIMGPU_ENTER();
    (void)kind;
    SIMGPU_NEED(size && wanted, CUDA_ERROR_INVALID_VALUE);
    *size = GRANULARITY;
    return CUDA_SUCCESS;
}

CUresult cuMulticastCreate(CUmemGenericAllocationHandle *out, const CUmulticastObjectProp *wanted) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && wanted && wanted->size && wanted->size % GRANULARITY == 0, CUDA_ERROR_INVALID_VALUE);
    struct multicast *object = calloc(1, sizeof *object);
    SIMGPU_NEED(object, CUDA_ERROR_OUT_OF_MEMORY);
    object->size = wanted->size;
    object->devices = wanted->numDevices;
    int place = 0;
    pthread_mutex_lock(&objects_lock);
    while (place < MOST_OBJECTS && objects[place])
        place++;
    if (place < MOST_OBJECTS)
        objects[place] = object;
    pthread_mutex_unlock(&objects_lock);
    SIMGPU_NEED(place < MOST_OBJECTS, CUDA_ERROR_OUT_OF_MEMORY);
    *out = (CUmemGenericAllocationHandle)object;
    return CUDA_SUCCESS;
}

CUresult cuMulticastAddDevice(CUmemGenericAllocationHandle handle, CUdevice device) {
    SIMGPU_ENTER();
    struct multicast *object = (struct multicast *)handle;
    SIMGPU_NEED(object && device >= 0 && device < simgpu_device_count, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(object->joined < object->devices, CUDA_ERROR_INVALID_VALUE);
    object->joined++;
    return CUDA_SUCCESS;
}

CUresult cuMulticastBindMem(CUmemGenericAllocationHandle handle, size_t offset, CUmemGenericAllocationHandle memory,
                            size_t memory_offset, size_t size, unsigned long long flags) {
    SIMGPU_ENTER();
    struct multicast *object = (struct multicast *)handle;
    SIMGPU_NEED(object && memory && size && !flags && memory_offset % GRANULARITY == 0, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(object->joined == object->devices, CUDA_ERROR_ILLEGAL_STATE);
    SIMGPU_NEED(offset + size <= object->size, CUDA_ERROR_INVALID_VALUE);
    int place = 0;
    pthread_mutex_lock(&objects_lock);
    while (place < MOST_BINDINGS && object->bindings[place].memory)
        place++;
    if (place < MOST_BINDINGS) {
        object->bindings[place].memory = (struct physical *)memory;
        object->bindings[place].offset = offset;
        object->bindings[place].size = size;
    }
    pthread_mutex_unlock(&objects_lock);
    SIMGPU_NEED(place < MOST_BINDINGS, CUDA_ERROR_OUT_OF_MEMORY);
    simgpu_hold_physical((struct physical *)memory);
    return CUDA_SUCCESS;
}

CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle handle, size_t offset, CUdeviceptr address, size_t size,
                             unsigned long long flags) {
    struct simgpu_block *block = simgpu_find_block(address);
    SIMGPU_NEED(block && block->kind == SIMGPU_MAPPED, CUDA_ERROR_INVALID_VALUE);
    return cuMulticastBindMem(handle, offset, (CUmemGenericAllocationHandle)block->owner, 0, size, flags);
}

static void unbind(struct multicast *object, size_t offset, size_t size) {
    for (int place = 0; place < MOST_BINDINGS; place++) {
        struct physical *memory = object->bindings[place].memory;
        size_t start = object->bindings[place].offset;
        if (!memory || start < offset || start + object->bindings[place].size > offset + size)
            continue;
        object->bindings[place].memory = NULL;
        simgpu_put_physical(memory);
    }
}

CUresult cuMulticastUnbind(CUmemGenericAllocationHandle handle, CUdevice device, size_t offset, size_t size) {
    SIMGPU_ENTER();
    SIMGPU_NEED(handle && device >= 0 && device < simgpu_device_count, CUDA_ERROR_INVALID_VALUE);
    unbind((struct multicast *)handle, offset, size);
    return CUDA_SUCCESS;
}

/* True if the handle was a multicast object, which is gone now. */
bool simgpu_release_multicast(CUmemGenericAllocationHandle handle) {
    pthread_mutex_lock(&objects_lock);
    int place = place_of(handle);
    bool known = place < MOST_OBJECTS;
    if (known)
        objects[place] = NULL;
    pthread_mutex_unlock(&objects_lock);
    if (!known)
        return false;
    unbind((struct multicast *)handle, 0, SIZE_MAX / 2);
    free((struct multicast *)handle);
    return true;
}
