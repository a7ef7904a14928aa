/* CUDA ordinals and NVML handles, mapped to cards by the UUID that the vendor's libraries report. */
#include "cards.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_ORDINALS 64
#define MAX_PROCESSES 256

static struct vgpu_device no_card; /* stands for: asked, and the container has no share of it */
static struct vgpu_device *by_ordinal[MAX_ORDINALS];
static struct {
    nvmlDevice_t handle;
    struct vgpu_device *device;
} by_handle[MAX_ORDINALS];

static void format_uuid(const CUuuid *uuid, char text[VGPU_UUID_SIZE]) {
    const unsigned char *b = (const unsigned char *)uuid->bytes;
    snprintf(text, VGPU_UUID_SIZE, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static struct vgpu_device *look_up_ordinal(CUdevice ordinal) {
    char text[VGPU_UUID_SIZE];
    CUuuid uuid;
    if (REAL(cuDeviceGetUuid)(&uuid, ordinal) != CUDA_SUCCESS) return 0;
    format_uuid(&uuid, text);
    struct vgpu_device *device = vgpu_device_by_uuid(text);
    RELEASE_STORE(&by_ordinal[ordinal], device ? device : &no_card);
    return device;
}

struct vgpu_device *vgpu_card_of_ordinal(CUdevice ordinal) {
    if (ordinal < 0 || ordinal >= MAX_ORDINALS) return 0;
    struct vgpu_device *device = ACQUIRE_LOAD(&by_ordinal[ordinal]);
    if (VGPU_UNLIKELY(!device)) return look_up_ordinal(ordinal);
    return device == &no_card ? 0 : device;
}

struct vgpu_device *vgpu_card_of_current_context(void) {
    CUdevice ordinal;
    return REAL(cuCtxGetDevice)(&ordinal) == CUDA_SUCCESS ? vgpu_card_of_ordinal(ordinal) : 0;
}

struct vgpu_device *vgpu_card_of_nvml(nvmlDevice_t handle) {
    char uuid[VGPU_UUID_SIZE];
    for (unsigned i = 0; i < MAX_ORDINALS; i++)
        if (ACQUIRE_LOAD(&by_handle[i].handle) == handle && handle) {
            struct vgpu_device *seen = ACQUIRE_LOAD(&by_handle[i].device);
            if (seen) return seen == &no_card ? 0 : seen;
        }
    if (REAL(nvmlDeviceGetUUID)(handle, uuid, sizeof uuid) != NVML_SUCCESS) return 0;
    struct vgpu_device *device = vgpu_device_by_uuid(uuid);
    for (unsigned i = 0; i < MAX_ORDINALS; i++) {
        nvmlDevice_t none = 0;
        if (!__atomic_compare_exchange_n(&by_handle[i].handle, &none, handle, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) continue;
        RELEASE_STORE(&by_handle[i].device, device ? device : &no_card);
        break;
    }
    return device;
}

static uint32_t nvml_ready;

/* NVML counts initialisations: ours, made once, takes nothing from the program's own. */
static bool nvml_is_ready(void) {
    if (ACQUIRE_LOAD(&nvml_ready)) return true;
    if (REAL(nvmlInit_v2)() != NVML_SUCCESS) return false;
    RELEASE_STORE(&nvml_ready, 1);
    return true;
}

void vgpu_cards_forget(void) { nvml_ready = 0; }

static nvmlReturn_t with_nvml(const struct vgpu_device *device, nvmlReturn_t (*ask)(nvmlDevice_t, void *), void *answer) {
    nvmlDevice_t handle;
    if (!nvml_is_ready()) return NVML_ERROR_NOT_FOUND;
    nvmlReturn_t result = REAL(nvmlDeviceGetHandleByUUID)(device->uuid, &handle);
    return result == NVML_SUCCESS ? ask(handle, answer) : result;
}

static nvmlReturn_t ask_process_memory(nvmlDevice_t handle, void *answer) {
    nvmlProcessInfo_t processes[MAX_PROCESSES];
    unsigned count = MAX_PROCESSES;
    nvmlReturn_t result = REAL(nvmlDeviceGetComputeRunningProcesses_v3)(handle, &count, processes);
    for (unsigned i = 0; result == NVML_SUCCESS && i < count; i++)
        if (processes[i].pid == (unsigned)getpid()) {
            *(uint64_t *)answer = processes[i].usedGpuMemory;
            return processes[i].usedGpuMemory == ~0ull ? NVML_ERROR_NOT_FOUND : NVML_SUCCESS;
        }
    return result == NVML_SUCCESS ? NVML_ERROR_NOT_FOUND : result;
}

bool vgpu_card_process_memory(const struct vgpu_device *device, uint64_t *bytes) {
    return with_nvml(device, ask_process_memory, bytes) == NVML_SUCCESS;
}

static nvmlReturn_t ask_utilisation(nvmlDevice_t handle, void *answer) {
    nvmlUtilization_t rates;
    nvmlReturn_t result = REAL(nvmlDeviceGetUtilizationRates)(handle, &rates);
    *(unsigned *)answer = rates.gpu;
    return result;
}

bool vgpu_card_utilisation(const struct vgpu_device *device, unsigned *percent) {
    return with_nvml(device, ask_utilisation, percent) == NVML_SUCCESS;
}

static nvmlReturn_t ask_used(nvmlDevice_t handle, void *answer) {
    nvmlMemory_t memory;
    nvmlReturn_t result = REAL(nvmlDeviceGetMemoryInfo)(handle, &memory);
    *(uint64_t *)answer = memory.used;
    return result;
}

bool vgpu_card_used(const struct vgpu_device *device, uint64_t *bytes) {
    return with_nvml(device, ask_used, bytes) == NVML_SUCCESS;
}
