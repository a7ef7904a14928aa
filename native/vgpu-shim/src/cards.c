/* CUDA ordinals and NVML handles, mapped to cards by the UUID that the vendor's libraries report. */
#include "cards.h"

#include <stdio.h>
#include <string.h>

#include "identity.h"

#define MAX_ORDINALS 64

static struct vgpu_device no_card; /* stands for: asked, and the container has no share of it */
static struct vgpu_device *by_ordinal[MAX_ORDINALS];
static struct {
    nvmlDevice_t handle;
    struct vgpu_device *device;
} by_handle[MAX_ORDINALS];

static void format_uuid(const CUuuid *uuid, const char *prefix, char text[VGPU_UUID_SIZE]) {
    const unsigned char *b = (const unsigned char *)uuid->bytes;
    snprintf(text, VGPU_UUID_SIZE, "%s-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", prefix, b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* The second form tells an instance of a partitioned card by its own UUID, the first by its card's. */
static CUresult uuid_of(CUdevice ordinal, CUuuid *uuid) {
    if (vgpu_is_available(VGPU_cuDeviceGetUuid_v2)) return REAL(cuDeviceGetUuid_v2)(uuid, ordinal);
    return REAL(cuDeviceGetUuid)(uuid, ordinal);
}

static struct vgpu_device *look_up_ordinal(CUdevice ordinal) {
    char text[VGPU_UUID_SIZE];
    CUuuid uuid;
    if (uuid_of(ordinal, &uuid) != CUDA_SUCCESS) return 0;
    format_uuid(&uuid, "GPU", text);
    struct vgpu_device *device = vgpu_device_by_uuid(text);
    format_uuid(&uuid, "MIG", text);
    if (!device) device = vgpu_device_by_uuid(text);
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

struct roster {
    nvmlProcessInfo_t *processes;
    unsigned *count;
};

static nvmlReturn_t ask_processes(nvmlDevice_t handle, void *answer) {
    struct roster *roster = answer;
    return REAL(nvmlDeviceGetComputeRunningProcesses_v3)(handle, roster->count, roster->processes);
}

bool vgpu_card_processes(const struct vgpu_device *device, nvmlProcessInfo_t *processes, unsigned *count) {
    struct roster roster = {processes, count};
    return with_nvml(device, ask_processes, &roster) == NVML_SUCCESS;
}

bool vgpu_card_process_memory(const struct vgpu_device *device, uint64_t *bytes) {
    nvmlProcessInfo_t processes[VGPU_MOST_PROCESSES];
    unsigned count = VGPU_MOST_PROCESSES, me = vgpu_nvml_pid();
    if (!me || !vgpu_card_processes(device, processes, &count)) return false;
    for (unsigned i = 0; i < count; i++)
        if (processes[i].pid == me) {
            *bytes = processes[i].usedGpuMemory;
            return *bytes != ~0ull; /* NVML: not available */
        }
    return false;
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

static nvmlReturn_t ask_process_utilisation(nvmlDevice_t handle, void *answer) {
    nvmlProcessUtilizationSample_t samples[VGPU_MOST_PROCESSES];
    unsigned count = VGPU_MOST_PROCESSES, me = vgpu_nvml_pid();
    nvmlReturn_t result = REAL(nvmlDeviceGetProcessUtilization)(handle, samples, &count, 0);
    unsigned long long newest = 0;
    for (unsigned i = 0; result == NVML_SUCCESS && me && i < count && i < VGPU_MOST_PROCESSES; i++)
        if (samples[i].pid == me && samples[i].timeStamp > newest) {
            newest = samples[i].timeStamp;
            *(unsigned *)answer = samples[i].smUtil;
        }
    return newest ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

bool vgpu_card_process_utilisation(const struct vgpu_device *device, unsigned *percent) {
    return with_nvml(device, ask_process_utilisation, percent) == NVML_SUCCESS;
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
