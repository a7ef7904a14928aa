/*
 * Events and errors of a card: XIDs that simgpuctl raises, and the ECC counters it sets.
 */
#include "nvml_api.h"

#include <stdlib.h>
#include <string.h>

#define POLL_NS 20000000ull

struct nvmlEventSet_st {
    unsigned long long types[SIMGPU_MAX_CARDS]; /* by card */
    nvmlDevice_t devices[SIMGPU_MAX_CARDS];
    uint64_t seen;
};

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *out) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out, NVML_ERROR_INVALID_ARGUMENT);
    *out = calloc(1, sizeof **out);
    SIMGPU_NEED(*out, NVML_ERROR_MEMORY);
    (*out)->seen = simgpu->event_count;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    SIMGPU_ENTER();
    SIMGPU_NEED(set, NVML_ERROR_INVALID_ARGUMENT);
    free(set);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(types, NVML_ERROR_INVALID_ARGUMENT);
    *types = nvmlEventTypeXidCriticalError | nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    unsigned long long supported = 0;
    nvmlReturn_t result = nvmlDeviceGetSupportedEventTypes(device, &supported);
    SIMGPU_NEED(result == NVML_SUCCESS, result);
    SIMGPU_NEED(set, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED((types & ~supported) == 0, NVML_ERROR_NOT_SUPPORTED);
    set->types[device->card] |= types;
    set->devices[device->card] = device;
    return NVML_SUCCESS;
}

static bool next_event(nvmlEventSet_t set, nvmlEventData_t *out) {
    uint64_t last = simgpu->event_count;
    if (last - set->seen > SIMGPU_MAX_EVENTS)
        set->seen = last - SIMGPU_MAX_EVENTS;
    while (set->seen < last) {
        const struct simgpu_event *event = &simgpu->events[set->seen++ % SIMGPU_MAX_EVENTS];
        if (event->card >= SIMGPU_MAX_CARDS || !(set->types[event->card] & event->type))
            continue;
        *out = (nvmlEventData_t){set->devices[event->card], event->type, event->code, 0xffffffff, 0xffffffff};
        return true;
    }
    return false;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *out, unsigned int timeout) {
    SIMGPU_ENTER();
    SIMGPU_NEED(set && out, NVML_ERROR_INVALID_ARGUMENT);
    uint64_t end = simgpu_now() + timeout * 1000000ull;
    while (!next_event(set, out)) {
        uint64_t now = simgpu_now();
        SIMGPU_NEED(now < end, NVML_ERROR_TIMEOUT);
        simgpu_wait_until(now + POLL_NS < end ? now + POLL_NS : end);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(current && pending, NVML_ERROR_INVALID_ARGUMENT);
    *current = *pending = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t span,
                                         unsigned long long *count) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(count && type < NVML_MEMORY_ERROR_TYPE_COUNT && span < NVML_ECC_COUNTER_TYPE_COUNT,
                NVML_ERROR_INVALID_ARGUMENT);
    const struct simgpu_card *card = &simgpu->cards[device->card];
    *count = type == NVML_MEMORY_ERROR_TYPE_CORRECTED ? card->ecc_corrected : card->ecc_uncorrected;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t span,
                                             nvmlMemoryLocation_t place, unsigned long long *count) {
    SIMGPU_NEED(count && place < NVML_MEMORY_LOCATION_COUNT, NVML_ERROR_INVALID_ARGUMENT);
    if (place == NVML_MEMORY_LOCATION_DEVICE_MEMORY)
        return nvmlDeviceGetTotalEccErrors(device, type, span, count);
    SIMGPU_ENTER_DEVICE(device);
    *count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, nvmlEnableState_t *pending) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(pending, NVML_ERROR_INVALID_ARGUMENT);
    *pending = NVML_FEATURE_DISABLED;
    return NVML_SUCCESS;
}
