/*
 * Memory of a card: the accounts of all live processes, as the kernel driver would count them.
 */
#include "nvml_api.h"

static uint64_t used_now(nvmlDevice_t device) {
    simgpu_reap();
    uint64_t used = simgpu->cards[device->card].used, total = simgpu_facts(device)->memory;
    return used < total ? used : total;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(memory, NVML_ERROR_INVALID_ARGUMENT);
    memory->total = simgpu_facts(device)->memory;
    memory->used = used_now(device);
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(memory, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(memory->version == nvmlMemory_v2, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    memory->total = simgpu_facts(device)->memory;
    memory->reserved = 0;
    memory->used = used_now(device);
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(memory, NVML_ERROR_INVALID_ARGUMENT);
    memory->bar1Total = 256ull << 20;
    memory->bar1Used = 1ull << 20;
    memory->bar1Free = memory->bar1Total - memory->bar1Used;
    return NVML_SUCCESS;
}
