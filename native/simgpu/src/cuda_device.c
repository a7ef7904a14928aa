/*
 * Start-up and device queries of the simulated libcuda.
 */
#include "cuda_api.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool simgpu_ready;
int simgpu_device_count;
int simgpu_device_cards[SIMGPU_MAX_CARDS];
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;

static void start_afresh_in_child(void) {
    simgpu_ready = false;
    pthread_mutex_init(&init_lock, NULL);
    simgpu_forget_contexts();
}

static CUresult initialise(void) {
    static bool watching_forks;
    if (simgpu_attach() != 0 || !simgpu_driver_reachable())
        return CUDA_ERROR_NO_DEVICE;
    int planned = simgpu->armed ? simgpu_planned_error("cuInit") : 0;
    if (planned)
        return (CUresult)planned;
    simgpu_choose_devices();
    if (simgpu_device_count == 0)
        return CUDA_ERROR_NO_DEVICE;
    if (simgpu_take_slot() != 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    if (!watching_forks)
        pthread_atfork(NULL, NULL, start_afresh_in_child);
    watching_forks = true;
    return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int flags) {
    SIMGPU_NEED(flags == 0, CUDA_ERROR_INVALID_VALUE);
    pthread_mutex_lock(&init_lock);
    CUresult result = simgpu_ready ? CUDA_SUCCESS : initialise();
    simgpu_ready = result == CUDA_SUCCESS;
    pthread_mutex_unlock(&init_lock);
    return result;
}

CUresult simgpu_lost(int card) {
    return simgpu->cards[card].lost ? CUDA_ERROR_DEVICE_UNAVAILABLE : CUDA_SUCCESS;
}

CUresult simgpu_entry_error(const char *function) {
    int planned = simgpu_planned_error(function);
    if (planned)
        return (CUresult)planned;
    CUcontext context = simgpu_current();
    return context ? simgpu_lost(context->card) : CUDA_SUCCESS;
}

static const struct simgpu_card_facts *facts_of(CUdevice device) {
    if (device < 0 || device >= simgpu_device_count)
        return NULL;
    return &simgpu->cards[simgpu_device_cards[device]].facts;
}

CUresult cuDriverGetVersion(int *version) {
    SIMGPU_NEED(version, CUDA_ERROR_INVALID_VALUE);
    *version = simgpu_attach() == 0 ? (int)simgpu->cuda_version : CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(count, CUDA_ERROR_INVALID_VALUE);
    *count = simgpu_device_count;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    SIMGPU_ENTER();
    SIMGPU_NEED(device, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(ordinal), CUDA_ERROR_INVALID_DEVICE);
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(name && length > 0, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(device), CUDA_ERROR_INVALID_DEVICE);
    snprintf(name, (size_t)length, "%s", facts_of(device)->name);
    return CUDA_SUCCESS;
}

/* The bytes behind "GPU-xxxxxxxx-...". */
static void parse_uuid(const char *text, CUuuid *uuid) {
    unsigned nibble = 0;
    memset(uuid, 0, sizeof *uuid);
    for (const char *at = strncmp(text, "GPU-", 4) ? text : text + 4; *at && nibble < 32; at++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, *at | 0x20);
        if (!digit || *at == '-')
            continue;
        uuid->bytes[nibble / 2] = (char)(uuid->bytes[nibble / 2] << 4 | (digit - digits));
        nibble++;
    }
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(uuid, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(device), CUDA_ERROR_INVALID_DEVICE);
    parse_uuid(facts_of(device)->uuid, uuid);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetLuid(char *luid, unsigned int *mask, CUdevice device) {
    SIMGPU_ENTER();
    (void)luid, (void)mask, (void)device;
    return CUDA_ERROR_NOT_SUPPORTED; /* Windows only */
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(bytes, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(device), CUDA_ERROR_INVALID_DEVICE);
    *bytes = facts_of(device)->memory;
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(major && minor, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(device), CUDA_ERROR_INVALID_DEVICE);
    *major = (int)facts_of(device)->compute_major;
    *minor = (int)facts_of(device)->compute_minor;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *text, int length, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(text && length > 0, CUDA_ERROR_INVALID_VALUE);
    const struct simgpu_card_facts *facts = facts_of(device);
    SIMGPU_NEED(facts, CUDA_ERROR_INVALID_DEVICE);
    snprintf(text, (size_t)length, "%04x:%02x:%02x.0", (unsigned)facts->pci_domain, (unsigned)facts->pci_bus,
             (unsigned)facts->pci_device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *text) {
    SIMGPU_ENTER();
    SIMGPU_NEED(device && text, CUDA_ERROR_INVALID_VALUE);
    unsigned domain = 0, bus, slot;
    if (sscanf(text, "%x:%x:%x", &domain, &bus, &slot) != 3) {
        domain = 0;
        SIMGPU_NEED(sscanf(text, "%x:%x", &bus, &slot) == 2, CUDA_ERROR_INVALID_VALUE);
    }
    for (int ordinal = 0; ordinal < simgpu_device_count; ordinal++) {
        const struct simgpu_card_facts *facts = facts_of(ordinal);
        if (facts->pci_domain == domain && facts->pci_bus == bus && facts->pci_device == slot) {
            *device = ordinal;
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceCanAccessPeer(int *answer, CUdevice device, CUdevice peer) {
    SIMGPU_ENTER();
    SIMGPU_NEED(answer, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(device) && facts_of(peer), CUDA_ERROR_INVALID_DEVICE);
    *answer = device != peer;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attribute, CUdevice device, CUdevice peer) {
    SIMGPU_ENTER();
    SIMGPU_NEED(value, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(device) && facts_of(peer) && device != peer, CUDA_ERROR_INVALID_DEVICE);
    *value = attribute != CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetExecAffinitySupport(int *supported, CUexecAffinityType type, CUdevice device) {
    SIMGPU_ENTER();
    (void)type;
    SIMGPU_NEED(supported && facts_of(device), CUDA_ERROR_INVALID_VALUE);
    *supported = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *properties, CUdevice device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(properties, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(facts_of(device), CUDA_ERROR_INVALID_DEVICE);
    *properties = (CUdevprop){.maxThreadsPerBlock = 1024,
                              .maxThreadsDim = {1024, 1024, 64},
                              .maxGridSize = {2147483647, 65535, 65535},
                              .sharedMemPerBlock = 49152,
                              .totalConstantMemory = 65536,
                              .SIMDWidth = 32,
                              .memPitch = 2147483647,
                              .regsPerBlock = 65536,
                              .clockRate = (int)facts_of(device)->sm_clock * 1000,
                              .textureAlign = 512};
    return CUDA_SUCCESS;
}
