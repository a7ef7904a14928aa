/*
 * Where cards sit: distance between them, and which processors are near.
 */
#include "nvml_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINKS 4 /* of a card that is joined to others */

static bool are_linked(nvmlDevice_t a, nvmlDevice_t b) {
    uint64_t group = simgpu_facts(a)->link_group;
    return group && group == simgpu_facts(b)->link_group;
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuTopologyLevel_t *level) {
    SIMGPU_ENTER_DEVICE(a);
    SIMGPU_NEED(level && simgpu_is_device(b), NVML_ERROR_INVALID_ARGUMENT);
    const struct simgpu_card_facts *left = simgpu_facts(a), *right = simgpu_facts(b);
    if (a == b)
        *level = NVML_TOPOLOGY_INTERNAL;
    else if (left->pci_domain == right->pci_domain && left->pci_bus >> 4 == right->pci_bus >> 4)
        *level = NVML_TOPOLOGY_SINGLE;
    else
        *level = left->numa_node == right->numa_node ? NVML_TOPOLOGY_NODE : NVML_TOPOLOGY_SYSTEM;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level, unsigned int *count,
                                              nvmlDevice_t *out) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    unsigned found = 0;
    for (unsigned index = 0; index < simgpu_nvml_count; index++) {
        nvmlDevice_t other = &simgpu_nvml_devices[index];
        nvmlGpuTopologyLevel_t between;
        if (other == device || nvmlDeviceGetTopologyCommonAncestor(device, other, &between) || between != level)
            continue;
        if (out && found < *count)
            out[found] = other;
        found++;
    }
    *count = found;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t a, nvmlDevice_t b, int *answer) {
    SIMGPU_ENTER_DEVICE(a);
    SIMGPU_NEED(answer && simgpu_is_device(b), NVML_ERROR_INVALID_ARGUMENT);
    *answer = a == b;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuP2PCapsIndex_t kind, nvmlGpuP2PStatus_t *out) {
    SIMGPU_ENTER_DEVICE(a);
    SIMGPU_NEED(out && simgpu_is_device(b), NVML_ERROR_INVALID_ARGUMENT);
    bool works = kind == NVML_P2P_CAPS_INDEX_NVLINK ? are_linked(a, b) : true;
    *out = works ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

/* The n-th other card of the group, over which link n goes; NULL: the link is down. */
static nvmlDevice_t across(nvmlDevice_t device, unsigned link) {
    nvmlDevice_t others[SIMGPU_MAX_CARDS];
    unsigned count = 0;
    for (unsigned index = 0; index < simgpu_nvml_count; index++)
        if (&simgpu_nvml_devices[index] != device && are_linked(device, &simgpu_nvml_devices[index]))
            others[count++] = &simgpu_nvml_devices[index];
    return count && link < LINKS ? others[link % count] : NULL;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *active) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(active && link < NVML_NVLINK_MAX_LINKS, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(simgpu_facts(device)->link_group && link < LINKS, NVML_ERROR_NOT_SUPPORTED);
    *active = across(device, link) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(pci && link < NVML_NVLINK_MAX_LINKS, NVML_ERROR_INVALID_ARGUMENT);
    nvmlDevice_t other = across(device, link);
    SIMGPU_NEED(other, NVML_ERROR_NOT_SUPPORTED);
    return nvmlDeviceGetPciInfo_v3(other, pci);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link, nvmlIntNvLinkDeviceType_t *type) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(type && link < NVML_NVLINK_MAX_LINKS, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(across(device, link), NVML_ERROR_NOT_SUPPORTED);
    *type = NVML_NVLINK_DEVICE_TYPE_GPU;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link, unsigned int *version) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(version && link < NVML_NVLINK_MAX_LINKS, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(across(device, link), NVML_ERROR_NOT_SUPPORTED);
    *version = 3;
    return NVML_SUCCESS;
}

static void add_range(unsigned long *set, unsigned words, unsigned first, unsigned last) {
    unsigned bits = sizeof(long) * 8;
    for (unsigned cpu = first; cpu <= last && cpu / bits < words; cpu++)
        set[cpu / bits] |= 1ul << cpu % bits;
}

/* The machine's own list of the card's node; all processors when it has no such node. */
nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int words, unsigned long *set) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(words && set, NVML_ERROR_INVALID_ARGUMENT);
    char path[96], list[4096] = "0-1023";
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", (int)simgpu_facts(device)->numa_node);
    FILE *file = fopen(path, "r");
    if (!file)
        file = fopen("/sys/devices/system/cpu/online", "r");
    if (file && !fgets(list, sizeof list, file))
        strcpy(list, "0");
    if (file)
        fclose(file);
    memset(set, 0, words * sizeof *set);
    for (char *at = list; *at >= '0' && *at <= '9';) {
        unsigned first = (unsigned)strtoul(at, &at, 10), last = *at == '-' ? (unsigned)strtoul(at + 1, &at, 10) : first;
        add_range(set, words, first, last);
        at += *at == ',';
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int words, unsigned long *set,
                                         nvmlAffinityScope_t scope) {
    SIMGPU_ENTER_DEVICE(device);
    (void)scope;
    SIMGPU_NEED(words && set, NVML_ERROR_INVALID_ARGUMENT);
    memset(set, 0, words * sizeof *set);
    add_range(set, words, (unsigned)simgpu_facts(device)->numa_node, (unsigned)simgpu_facts(device)->numa_node);
    return NVML_SUCCESS;
}
