/*
 * Which cards there are and what they are: handles, names, addresses, capabilities.
 */
#include "nvml_api.h"

#include <stdio.h>
#include <string.h>

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    *count = simgpu_nvml_count;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(device && index < simgpu_nvml_count, NVML_ERROR_INVALID_ARGUMENT);
    *device = &simgpu_nvml_devices[index];
    SIMGPU_NEED(!simgpu->cards[(*device)->card].lost, NVML_ERROR_GPU_IS_LOST);
    return NVML_SUCCESS;
}

static nvmlReturn_t find(nvmlDevice_t *out, bool (*matches)(const struct simgpu_card_facts *, const char *),
                         const char *wanted) {
    SIMGPU_NEED(out && wanted, NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned index = 0; index < simgpu_nvml_count; index++) {
        nvmlDevice_t device = &simgpu_nvml_devices[index];
        if (!matches(simgpu_facts(device), wanted))
            continue;
        SIMGPU_NEED(!simgpu->cards[device->card].lost, NVML_ERROR_GPU_IS_LOST);
        *out = device;
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

static bool has_uuid(const struct simgpu_card_facts *facts, const char *wanted) {
    return strcmp(facts->uuid, wanted) == 0;
}

static bool has_serial(const struct simgpu_card_facts *facts, const char *wanted) {
    return strcmp(facts->serial, wanted) == 0;
}

static bool has_address(const struct simgpu_card_facts *facts, const char *wanted) {
    unsigned domain = 0, bus, slot;
    if (sscanf(wanted, "%x:%x:%x", &domain, &bus, &slot) != 3) {
        domain = 0;
        if (sscanf(wanted, "%x:%x", &bus, &slot) != 2)
            return false;
    }
    return facts->pci_domain == domain && facts->pci_bus == bus && facts->pci_device == slot;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    SIMGPU_ENTER();
    return find(device, has_uuid, uuid);
}

nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t *uuid, nvmlDevice_t *device) {
    SIMGPU_ENTER();
    SIMGPU_NEED(uuid, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(uuid->version == nvmlUUID_v1, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    SIMGPU_NEED(uuid->type == NVML_UUID_TYPE_ASCII, NVML_ERROR_NOT_SUPPORTED);
    return find(device, has_uuid, uuid->value.str);
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    SIMGPU_ENTER();
    return find(device, has_serial, serial);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvmlDevice_t *device) {
    SIMGPU_ENTER();
    return find(device, has_address, address);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    SIMGPU_ENTER_DEVICE(device);
    return simgpu_give_text(simgpu_facts(device)->name, name, length);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    SIMGPU_ENTER_DEVICE(device);
    return simgpu_give_text(simgpu_facts(device)->uuid, uuid, length);
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned int length) {
    SIMGPU_ENTER_DEVICE(device);
    return simgpu_give_text(simgpu_facts(device)->serial, serial, length);
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned int length) {
    SIMGPU_ENTER_DEVICE(device);
    return simgpu_give_text("00.00.00.00.00", version, length);
}

nvmlReturn_t nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char *number, unsigned int length) {
    SIMGPU_ENTER_DEVICE(device);
    return simgpu_give_text("000-00000-0000-000", number, length);
}

SIMGPU_NUMBER(nvmlDeviceGetMinorNumber, unsigned int, simgpu_facts(device)->minor)
SIMGPU_NUMBER(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, simgpu_facts(device)->architecture)
SIMGPU_NUMBER(nvmlDeviceGetBrand, nvmlBrandType_t, simgpu_facts(device)->brand)
SIMGPU_NUMBER(nvmlDeviceGetNumGpuCores, unsigned int, simgpu_facts(device)->multiprocessors * 64)
SIMGPU_NUMBER(nvmlDeviceGetMemoryBusWidth, unsigned int, 5120)
SIMGPU_NUMBER(nvmlDeviceGetBusType, nvmlBusType_t, NVML_BUS_TYPE_PCIE)
SIMGPU_NUMBER(nvmlDeviceGetBoardId, unsigned int, simgpu_facts(device)->pci_bus << 8)
SIMGPU_NUMBER(nvmlDeviceGetMultiGpuBoard, unsigned int, 0)
SIMGPU_NUMBER(nvmlDeviceIsMigDeviceHandle, unsigned int, 0)
SIMGPU_NUMBER(nvmlDeviceGetNumaNodeId, unsigned int, simgpu_facts(device)->numa_node)
SIMGPU_NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, 4)
SIMGPU_NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, 4)
SIMGPU_NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, 4)
SIMGPU_NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, 16)
SIMGPU_NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, 16)
SIMGPU_NUMBER(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
SIMGPU_NUMBER(nvmlDeviceGetDisplayMode, nvmlEnableState_t, NVML_FEATURE_DISABLED)
SIMGPU_NUMBER(nvmlDeviceGetDisplayActive, nvmlEnableState_t, NVML_FEATURE_DISABLED)
SIMGPU_NUMBER(nvmlDeviceGetComputeMode, nvmlComputeMode_t, NVML_COMPUTEMODE_DEFAULT)
SIMGPU_NUMBER(nvmlDeviceGetAccountingMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)

/* Answers for a lost card too: the index is the library's own knowledge. */
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    SIMGPU_ENTER();
    SIMGPU_NEED(index && simgpu_is_device(device), NVML_ERROR_INVALID_ARGUMENT);
    *index = device->index;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(major && minor, NVML_ERROR_INVALID_ARGUMENT);
    *major = (int)simgpu_facts(device)->compute_major;
    *minor = (int)simgpu_facts(device)->compute_minor;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(pci, NVML_ERROR_INVALID_ARGUMENT);
    const struct simgpu_card_facts *facts = simgpu_facts(device);
    memset(pci, 0, sizeof *pci);
    pci->domain = (unsigned)facts->pci_domain;
    pci->bus = (unsigned)facts->pci_bus;
    pci->device = (unsigned)facts->pci_device;
    pci->pciDeviceId = (unsigned)facts->pci_device_id;
    pci->pciSubSystemId = (unsigned)facts->pci_subsystem_id;
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", pci->domain, pci->bus, pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0x1f);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t *pci) {
    nvmlPciInfo_t plain;
    nvmlReturn_t result = nvmlDeviceGetPciInfo_v3(device, pci ? &plain : NULL);
    SIMGPU_NEED(result == NVML_SUCCESS, result);
    SIMGPU_NEED(pci->version == nvmlPciInfoExt_v1, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    pci->domain = plain.domain, pci->bus = plain.bus, pci->device = plain.device;
    pci->pciDeviceId = plain.pciDeviceId, pci->pciSubSystemId = plain.pciSubSystemId;
    pci->baseClass = 3, pci->subClass = 2;
    memcpy(pci->busId, plain.busId, sizeof pci->busId);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(current && pending, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(simgpu_facts(device)->compute_major >= 8, NVML_ERROR_NOT_SUPPORTED);
    *current = *pending = NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    *count = 0;
    return NVML_SUCCESS;
}
