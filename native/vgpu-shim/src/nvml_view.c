/* NVML as the share sees it: its memory, its processes. Other tenants stay unseen. */
#include <stdlib.h>
#include <string.h>

#include "cards.h"
#include "charge.h"
#include "identity.h"
#include "swap.h"

#define MOST_PROCESSES 4096u

/* The share's memory in place of the card's, with what it may swap; free never exceeds what there really is. */
static void narrow(const struct vgpu_device *device, unsigned long long *total, unsigned long long *free,
                   unsigned long long *used) {
    struct vgpu_memory_view view = {*total, *free};
    vgpu_narrow(device, &view);
    *total = view.total;
    *free = view.free;
    uint64_t charged = vgpu_device_used(device) + vgpu_swap_used(device);
    *used = charged < *total ? charged : *total;
}

nvmlReturn_t vgpu_nvml_memory_info(enum vgpu_function id, nvmlDevice_t handle, nvmlMemory_t *memory) {
    nvmlReturn_t result = REAL_AS(nvmlDeviceGetMemoryInfo, id)(handle, memory);
    struct vgpu_device *device = result == NVML_SUCCESS ? vgpu_card_of_nvml(handle) : 0;
    if (device && device->share_count) narrow(device, &memory->total, &memory->free, &memory->used);
    return result;
}

nvmlReturn_t vgpu_nvml_memory_info_v2(enum vgpu_function id, nvmlDevice_t handle, nvmlMemory_v2_t *memory) {
    nvmlReturn_t result = REAL_AS(nvmlDeviceGetMemoryInfo_v2, id)(handle, memory);
    struct vgpu_device *device = result == NVML_SUCCESS ? vgpu_card_of_nvml(handle) : 0;
    if (!device || !device->share_count) return result;
    narrow(device, &memory->total, &memory->free, &memory->used);
    memory->reserved = 0; /* the driver's own part of the card is no part of a share */
    return result;
}

struct seen {
    unsigned pid; /* as the program should see it */
    uint64_t charged;
};

/* The process that NVML calls `pid`; false: it is none of the share's. In this process's PID namespace it is shown
 * by its id there, which is what the program knows it by. */
static bool is_ours(const struct vgpu_device *device, unsigned pid, struct seen *seen) {
    bool found = false;
    *seen = (struct seen){pid, 0};
    for (unsigned i = 0; pid && i < device->share_count; i++)
        for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++) {
            const struct vgpu_usage_slot *slot = &device->shares[i].usage->slots[n];
            if (ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE || ACQUIRE_LOAD(&slot->nvml_pid) != pid) continue;
            unsigned namespace = RELAXED_LOAD(&slot->pid_namespace);
            if (namespace && namespace == vgpu_pid_namespace()) seen->pid = (unsigned)RELAXED_LOAD(&slot->pid);
            seen->charged += RELAXED_LOAD(&slot->charged_bytes);
            found = true;
        }
    return found;
}

/* Asks for all processes: the caller's array may hold the share's, but not the card's. */
static nvmlReturn_t all_processes(enum vgpu_function id, nvmlDevice_t handle, size_t size, unsigned *count, void **all) {
    *count = MOST_PROCESSES;
    *all = calloc(MOST_PROCESSES, size);
    if (!*all) return NVML_ERROR_INSUFFICIENT_SIZE;
    nvmlReturn_t (*real)(nvmlDevice_t, unsigned *, void *) =
        (nvmlReturn_t (*)(nvmlDevice_t, unsigned *, void *))vgpu_real(id);
    return real(handle, count, *all);
}

/* Keeps the share's processes; `count` is the caller's room, then the number of processes, as NVML does. */
static nvmlReturn_t keep_ours(const struct vgpu_device *device, char *all, unsigned seen, size_t size, unsigned *count,
                              void *out) {
    unsigned kept = 0, room = out ? *count : 0;
    for (unsigned i = 0; i < seen; i++) {
        nvmlProcessInfo_v1_t *process = (nvmlProcessInfo_v1_t *)(void *)(all + i * size); /* all forms begin alike */
        struct seen seen_as;
        if (!is_ours(device, process->pid, &seen_as)) continue;
        process->pid = seen_as.pid;
        process->usedGpuMemory = seen_as.charged;
        if (kept < room) memcpy((char *)out + kept * size, process, size);
        kept++;
    }
    *count = kept;
    return kept > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static nvmlReturn_t running(enum vgpu_function id, nvmlDevice_t handle, unsigned *count, void *out, size_t size) {
    struct vgpu_device *device = count ? vgpu_card_of_nvml(handle) : 0;
    void *all = 0;
    unsigned seen;
    if (!device || !device->share_count)
        return ((nvmlReturn_t (*)(nvmlDevice_t, unsigned *, void *))vgpu_real(id))(handle, count, out);
    nvmlReturn_t result = all_processes(id, handle, size, &seen, &all);
    if (result == NVML_SUCCESS) result = keep_ours(device, all, seen, size, count, out);
    free(all);
    return result;
}

nvmlReturn_t vgpu_nvml_running_processes_v1(enum vgpu_function id, nvmlDevice_t handle, unsigned *count,
                                            nvmlProcessInfo_v1_t *out) {
    return running(id, handle, count, out, sizeof *out);
}

nvmlReturn_t vgpu_nvml_running_processes_v2(enum vgpu_function id, nvmlDevice_t handle, unsigned *count,
                                            nvmlProcessInfo_v2_t *out) {
    return running(id, handle, count, out, sizeof *out);
}

nvmlReturn_t vgpu_nvml_running_processes_v3(enum vgpu_function id, nvmlDevice_t handle, unsigned *count,
                                            nvmlProcessInfo_t *out) {
    return running(id, handle, count, out, sizeof *out);
}

nvmlReturn_t vgpu_nvml_process_detail_list(enum vgpu_function id, nvmlDevice_t handle, nvmlProcessDetailList_t *list) {
    nvmlReturn_t result = REAL_AS(nvmlDeviceGetRunningProcessDetailList, id)(handle, list);
    struct vgpu_device *device = result == NVML_SUCCESS && list->procArray ? vgpu_card_of_nvml(handle) : 0;
    unsigned kept = 0;
    if (!device || !device->share_count) return result;
    for (unsigned i = 0; i < list->numProcArrayEntries; i++) {
        struct seen seen;
        if (!is_ours(device, list->procArray[i].pid, &seen)) continue;
        list->procArray[kept] = list->procArray[i];
        list->procArray[kept].pid = seen.pid;
        list->procArray[kept++].usedGpuMemory = seen.charged;
    }
    list->numProcArrayEntries = kept;
    return result;
}

nvmlReturn_t vgpu_nvml_process_utilization(enum vgpu_function id, nvmlDevice_t handle,
                                           nvmlProcessUtilizationSample_t *samples, unsigned *count,
                                           unsigned long long since) {
    nvmlReturn_t result = REAL_AS(nvmlDeviceGetProcessUtilization, id)(handle, samples, count, since);
    struct vgpu_device *device = result == NVML_SUCCESS && samples && count ? vgpu_card_of_nvml(handle) : 0;
    unsigned kept = 0;
    if (!device || !device->share_count) return result;
    for (unsigned i = 0; i < *count; i++) {
        struct seen seen;
        if (!is_ours(device, samples[i].pid, &seen)) continue;
        samples[kept] = samples[i];
        samples[kept++].pid = seen.pid;
    }
    *count = kept;
    return kept ? result : NVML_ERROR_NOT_FOUND; /* what NVML says when it has no sample */
}

nvmlReturn_t vgpu_nvml_processes_utilization_info(enum vgpu_function id, nvmlDevice_t handle,
                                                  nvmlProcessesUtilizationInfo_t *list) {
    nvmlReturn_t result = REAL_AS(nvmlDeviceGetProcessesUtilizationInfo, id)(handle, list);
    struct vgpu_device *device = result == NVML_SUCCESS && list->procUtilArray ? vgpu_card_of_nvml(handle) : 0;
    unsigned kept = 0;
    if (!device || !device->share_count) return result;
    for (unsigned i = 0; i < list->processSamplesCount; i++) {
        struct seen seen;
        if (!is_ours(device, list->procUtilArray[i].pid, &seen)) continue;
        list->procUtilArray[kept] = list->procUtilArray[i];
        list->procUtilArray[kept++].pid = seen.pid;
    }
    list->processSamplesCount = kept;
    return kept ? result : NVML_ERROR_NOT_FOUND;
}

/* The number by which NVML knows the share's process that the program calls `pid`; 0: none of the share's. */
static unsigned number_of(const struct vgpu_device *device, unsigned pid) {
    for (unsigned i = 0; i < device->share_count; i++)
        for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++) {
            const struct vgpu_usage_slot *slot = &device->shares[i].usage->slots[n];
            unsigned number = ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE ? 0 : ACQUIRE_LOAD(&slot->nvml_pid);
            struct seen seen;
            if (number && is_ours(device, number, &seen) && seen.pid == pid) return number;
        }
    return 0;
}

nvmlReturn_t vgpu_nvml_accounting_pids(enum vgpu_function id, nvmlDevice_t handle, unsigned *count, unsigned *pids) {
    struct vgpu_device *device = count ? vgpu_card_of_nvml(handle) : 0;
    unsigned all = MOST_PROCESSES, kept = 0, room = count && pids ? *count : 0;
    if (!device || !device->share_count) return REAL_AS(nvmlDeviceGetAccountingPids, id)(handle, count, pids);
    unsigned *list = calloc(all, sizeof *list);
    if (!list) return NVML_ERROR_INSUFFICIENT_SIZE;
    nvmlReturn_t result = REAL_AS(nvmlDeviceGetAccountingPids, id)(handle, &all, list);
    for (unsigned i = 0; result == NVML_SUCCESS && i < all; i++) {
        struct seen seen;
        if (!is_ours(device, list[i], &seen)) continue;
        if (kept < room) pids[kept] = seen.pid;
        kept++;
    }
    free(list);
    if (result != NVML_SUCCESS) return result;
    *count = kept;
    return kept > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvmlReturn_t vgpu_nvml_accounting_stats(enum vgpu_function id, nvmlDevice_t handle, unsigned pid,
                                        nvmlAccountingStats_t *stats) {
    struct vgpu_device *device = vgpu_card_of_nvml(handle);
    if (!device || !device->share_count) return REAL_AS(nvmlDeviceGetAccountingStats, id)(handle, pid, stats);
    unsigned number = number_of(device, pid);
    return number ? REAL_AS(nvmlDeviceGetAccountingStats, id)(handle, number, stats) : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t vgpu_nvml_accounting_stats_v2(enum vgpu_function id, nvmlDevice_t handle, nvmlAccountingStats_v2_t *stats) {
    struct vgpu_device *device = stats ? vgpu_card_of_nvml(handle) : 0;
    if (!device || !device->share_count) return REAL_AS(nvmlDeviceGetAccountingStats_v2, id)(handle, stats);
    unsigned asked = stats->pid, number = number_of(device, asked);
    if (!number) return NVML_ERROR_NOT_FOUND;
    stats->pid = number;
    nvmlReturn_t result = REAL_AS(nvmlDeviceGetAccountingStats_v2, id)(handle, stats);
    stats->pid = asked;
    return result;
}
