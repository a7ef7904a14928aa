/*
 * How busy, hot and hungry a card is. Utilisation is measured on the time line; the rest follows from it.
 */
#include "nvml_api.h"

#include <time.h>

#define SAMPLE_NS 500000000ull
#define IDLE_CELSIUS 34
#define BUSY_CELSIUS 40

unsigned simgpu_utilization(int card) {
    uint64_t now = simgpu_now(), from = now > SAMPLE_NS ? now - SAMPLE_NS : 0, busy = 0;
    for (int slot = 0; slot < SIMGPU_MAX_SLOTS; slot++)
        if (simgpu->slots[slot].generation)
            busy += simgpu_busy_between(slot, card, from, now);
    uint64_t percent = (busy * 100 + (now - from) / 2) / (now - from);
    return percent > 100 ? 100 : (unsigned)percent;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(rates, NVML_ERROR_INVALID_ARGUMENT);
    rates->gpu = simgpu_utilization(device->card);
    rates->memory = rates->gpu / 2;
    return NVML_SUCCESS;
}

static nvmlReturn_t unused_engine(nvmlDevice_t device, unsigned *utilization, unsigned *period) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(utilization && period, NVML_ERROR_INVALID_ARGUMENT);
    *utilization = 0;
    *period = SAMPLE_NS / 1000;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int *utilization, unsigned int *period) {
    return unused_engine(device, utilization, period);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int *utilization, unsigned int *period) {
    return unused_engine(device, utilization, period);
}

static unsigned celsius(nvmlDevice_t device) {
    return IDLE_CELSIUS + BUSY_CELSIUS * simgpu_utilization(device->card) / 100;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *out) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(out && sensor == NVML_TEMPERATURE_GPU, NVML_ERROR_INVALID_ARGUMENT);
    *out = celsius(device);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *out) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(out && out->sensorType == NVML_TEMPERATURE_GPU, NVML_ERROR_INVALID_ARGUMENT);
    out->temperature = (int)celsius(device);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t kind, unsigned int *out) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(out && kind < NVML_TEMPERATURE_THRESHOLD_COUNT, NVML_ERROR_INVALID_ARGUMENT);
    *out = kind == NVML_TEMPERATURE_THRESHOLD_SHUTDOWN ? 92 : kind == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN ? 89 : 85;
    return NVML_SUCCESS;
}

static unsigned clock_of(nvmlDevice_t device, nvmlClockType_t kind) {
    return (unsigned)(kind == NVML_CLOCK_MEM ? simgpu_facts(device)->memory_clock : simgpu_facts(device)->sm_clock);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t kind, unsigned int *out) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(out && kind < NVML_CLOCK_COUNT, NVML_ERROR_INVALID_ARGUMENT);
    bool idle = kind != NVML_CLOCK_MEM && simgpu_utilization(device->card) == 0;
    *out = idle ? 210 : clock_of(device, kind);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t kind, unsigned int *out) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(out && kind < NVML_CLOCK_COUNT, NVML_ERROR_INVALID_ARGUMENT);
    *out = clock_of(device, kind);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t kind, nvmlClockId_t id, unsigned int *out) {
    return id == NVML_CLOCK_ID_CURRENT ? nvmlDeviceGetClockInfo(device, kind, out)
                                       : nvmlDeviceGetMaxClockInfo(device, kind, out);
}

SIMGPU_NUMBER(nvmlDeviceGetPowerUsage, unsigned int,
       simgpu_facts(device)->power_limit / 10 + simgpu_facts(device)->power_limit * simgpu_utilization(device->card) / 125)
SIMGPU_NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned int, simgpu_facts(device)->power_limit)
SIMGPU_NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, simgpu_facts(device)->power_limit)
SIMGPU_NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, simgpu_facts(device)->power_limit)
SIMGPU_NUMBER(nvmlDeviceGetPowerManagementMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
SIMGPU_NUMBER(nvmlDeviceGetFanSpeed, unsigned int, 30 + simgpu_utilization(device->card) / 2)
SIMGPU_NUMBER(nvmlDeviceGetNumFans, unsigned int, 1)
SIMGPU_NUMBER(nvmlDeviceGetPerformanceState, nvmlPstates_t, simgpu_utilization(device->card) ? NVML_PSTATE_0 : NVML_PSTATE_8)
SIMGPU_NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long,
       simgpu_utilization(device->card) ? nvmlClocksEventReasonNone : nvmlClocksEventReasonGpuIdle)
SIMGPU_NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long,
       simgpu_utilization(device->card) ? nvmlClocksEventReasonNone : nvmlClocksEventReasonGpuIdle)

nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan, unsigned int *out) {
    SIMGPU_NEED(fan == 0, NVML_ERROR_INVALID_ARGUMENT);
    return nvmlDeviceGetFanSpeed(device, out);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *least, unsigned int *most) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(least && most, NVML_ERROR_INVALID_ARGUMENT);
    *most = (unsigned)simgpu_facts(device)->power_limit;
    *least = *most / 2;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter, unsigned int *out) {
    SIMGPU_ENTER_DEVICE(device);
    SIMGPU_NEED(out && counter < NVML_PCIE_UTIL_COUNT, NVML_ERROR_INVALID_ARGUMENT);
    *out = 0;
    return NVML_SUCCESS;
}

/* One sample: the present utilisation, under the present time. */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t kind, unsigned long long last_seen,
                                  nvmlValueType_t *type, unsigned int *count, nvmlSample_t *samples) {
    SIMGPU_ENTER_DEVICE(device);
    (void)last_seen;
    SIMGPU_NEED(type && count, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(kind == NVML_GPU_UTILIZATION_SAMPLES || kind == NVML_MEMORY_UTILIZATION_SAMPLES, NVML_ERROR_NOT_SUPPORTED);
    bool given = samples && *count > 0;
    *type = NVML_VALUE_TYPE_UNSIGNED_INT;
    *count = 1;
    if (!given)
        return samples ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    samples->timeStamp = (unsigned long long)now.tv_sec * 1000000ull + (unsigned long long)now.tv_nsec / 1000;
    unsigned percent = simgpu_utilization(device->card);
    samples->sampleValue.uiVal = kind == NVML_GPU_UTILIZATION_SAMPLES ? percent : percent / 2;
    return NVML_SUCCESS;
}
