/*
 * Who is on a card: processes with their memory and their share of the time, pids as the caller sees them.
 */
#include "nvml_api.h"

#include <string.h>
#include <time.h>

#define PERIOD_NS 1000000000ull

struct tenant {
    int slot;
    unsigned pid;
    uint64_t bytes;
};

/*
 * A container has a PID namespace of its own, and the driver reports process ids of the host: numbers that
 * mean nothing, or another process, to who asks. `foreign_pids` makes such numbers for every process.
 */
static unsigned reported_pid(int number, pid_t seen_by_caller) {
    if (!simgpu->foreign_pids)
        return (unsigned)seen_by_caller;
    return 0x200000u + (unsigned)(simgpu->slots[number].generation & 0xfff) * SIMGPU_MAX_SLOTS + (unsigned)number;
}

static unsigned tenants_of(int card, struct tenant tenants[SIMGPU_MAX_SLOTS]) {
    unsigned count = 0;
    for (int number = 0; number < SIMGPU_MAX_SLOTS; number++) {
        struct simgpu_slot *slot = &simgpu->slots[number];
        pid_t pid = 0;
        if (!slot->taken || !slot->accounts[card].contexts || (!simgpu_slot_lives(number, &pid) && !simgpu_lingers(number)))
            continue;
        if (slot->ended)
            pid = (pid_t)slot->pid;
        unsigned reported = reported_pid(number, pid);
        if (reported)
            tenants[count++] = (struct tenant){number, reported, slot->accounts[card].bytes};
    }
    return count;
}

static nvmlReturn_t room_for(unsigned count, unsigned *room, const void *list) {
    unsigned offered = *room;
    *room = count;
    SIMGPU_NEED(offered >= count, NVML_ERROR_INSUFFICIENT_SIZE);
    return count == 0 || list ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *list) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    struct tenant tenants[SIMGPU_MAX_SLOTS];
    unsigned found = tenants_of(device->card, tenants);
    nvmlReturn_t result = room_for(found, count, list);
    for (unsigned at = 0; at < found && result == NVML_SUCCESS; at++)
        list[at] = (nvmlProcessInfo_t){tenants[at].pid, tenants[at].bytes, 0xffffffff, 0xffffffff};
    return result;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
                                                     nvmlProcessInfo_v2_t *list) {
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, (nvmlProcessInfo_t *)list);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *list) {
    nvmlProcessInfo_t wide[SIMGPU_MAX_SLOTS];
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    unsigned offered = *count, room = SIMGPU_MAX_SLOTS;
    nvmlReturn_t result = nvmlDeviceGetComputeRunningProcesses_v3(device, &room, wide);
    SIMGPU_NEED(result == NVML_SUCCESS, result);
    *count = offered;
    result = room_for(room, count, list);
    for (unsigned at = 0; at < room && result == NVML_SUCCESS; at++)
        list[at] = (nvmlProcessInfo_v1_t){wide[at].pid, wide[at].usedGpuMemory};
    return result;
}

static nvmlReturn_t nobody(nvmlDevice_t device, unsigned *count) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    *count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *list) {
    (void)list;
    return nobody(device, count);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
                                                      nvmlProcessInfo_v2_t *list) {
    (void)list;
    return nobody(device, count);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *list) {
    (void)list;
    return nobody(device, count);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                        nvmlProcessInfo_t *list) {
    (void)list;
    return nobody(device, count);
}

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *list) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(list, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(list->version == nvmlProcessDetailList_v1, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    struct tenant tenants[SIMGPU_MAX_SLOTS];
    unsigned found = tenants_of(device->card, tenants);
    nvmlReturn_t result = room_for(found, &list->numProcArrayEntries, list->procArray);
    for (unsigned at = 0; at < found && result == NVML_SUCCESS; at++)
        list->procArray[at] = (nvmlProcessDetail_v1_t){tenants[at].pid, tenants[at].bytes, 0xffffffff, 0xffffffff, 0};
    return result;
}

/* CPU time in microseconds since 1970, which is what samples carry. */
static uint64_t wall_microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000ull + (uint64_t)now.tv_nsec / 1000;
}

/* A process's busy share in percent since `last_seen`, at most over one period. */
static unsigned share_since(int slot, int card, uint64_t last_seen, uint64_t wall) {
    uint64_t now = simgpu_now(), period = PERIOD_NS;
    if (last_seen && last_seen < wall && (wall - last_seen) * 1000 < period && wall - last_seen > 10000)
        period = (wall - last_seen) * 1000;
    if (period > now)
        period = now;
    uint64_t busy = simgpu_busy_between(slot, card, now - period, now);
    return (unsigned)((busy * 100 + period / 2) / period);
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                             unsigned int *count, unsigned long long last_seen) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    struct tenant tenants[SIMGPU_MAX_SLOTS];
    unsigned found = tenants_of(device->card, tenants);
    if (!samples || *count < found) {
        *count = found;
        return found ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
    }
    *count = found;
    SIMGPU_NEED(found, NVML_ERROR_NOT_FOUND);
    uint64_t wall = wall_microseconds();
    for (unsigned at = 0; at < found; at++) {
        samples[at] = (nvmlProcessUtilizationSample_t){.pid = tenants[at].pid, .timeStamp = wall};
        samples[at].smUtil = share_since(tenants[at].slot, device->card, last_seen, wall);
        samples[at].memUtil = samples[at].smUtil / 2;
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_t *list) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(list, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(list->version == nvmlProcessesUtilizationInfo_v1, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    struct tenant tenants[SIMGPU_MAX_SLOTS];
    unsigned found = tenants_of(device->card, tenants);
    if (!list->procUtilArray || list->processSamplesCount < found) {
        list->processSamplesCount = found;
        return found ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
    }
    list->processSamplesCount = found;
    uint64_t wall = wall_microseconds();
    for (unsigned at = 0; at < found; at++) {
        nvmlProcessUtilizationInfo_v1_t *entry = &list->procUtilArray[at];
        memset(entry, 0, sizeof *entry);
        entry->pid = tenants[at].pid;
        entry->timeStamp = wall;
        entry->smUtil = share_since(tenants[at].slot, device->card, list->lastSeenTimeStamp, wall);
        entry->memUtil = entry->smUtil / 2;
    }
    return NVML_SUCCESS;
}

/* Accounting is always on, and keeps only those who are on the card now. */
nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    struct tenant tenants[SIMGPU_MAX_SLOTS];
    unsigned found = tenants_of(device->card, tenants);
    nvmlReturn_t result = room_for(found, count, pids);
    for (unsigned at = 0; at < found && result == NVML_SUCCESS; at++)
        pids[at] = tenants[at].pid;
    return result;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(stats, NVML_ERROR_INVALID_ARGUMENT);
    struct tenant tenants[SIMGPU_MAX_SLOTS];
    unsigned found = tenants_of(device->card, tenants);
    for (unsigned at = 0; at < found; at++) {
        if (tenants[at].pid != pid)
            continue;
        memset(stats, 0, sizeof *stats);
        stats->maxMemoryUsage = simgpu->slots[tenants[at].slot].accounts[device->card].peak;
        stats->gpuUtilization = share_since(tenants[at].slot, device->card, 0, wall_microseconds());
        stats->isRunning = 1;
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetAccountingBufferSize(nvmlDevice_t device, unsigned int *size) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(size, NVML_ERROR_INVALID_ARGUMENT);
    *size = SIMGPU_MAX_SLOTS;
    return NVML_SUCCESS;
}
