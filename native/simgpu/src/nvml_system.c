/*
 * Start and end of NVML, versions, and the texts of its errors.
 */
#include "nvml_api.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

unsigned simgpu_nvml_count;
struct nvmlDevice_st simgpu_nvml_devices[SIMGPU_MAX_CARDS];
static _Atomic int users;
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;

nvmlReturn_t simgpu_nvml_refusal(const char *function) {
    if (users == 0)
        return NVML_ERROR_UNINITIALIZED;
    return simgpu->armed ? (nvmlReturn_t)simgpu_planned_error(function) : NVML_SUCCESS;
}

bool simgpu_is_device(nvmlDevice_t device) {
    return device >= simgpu_nvml_devices && device < simgpu_nvml_devices + simgpu_nvml_count;
}

static nvmlReturn_t start(void) {
    int attached = simgpu_attach();
    if (attached == -EPROTO)
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    if (attached != 0 || !simgpu_driver_reachable())
        return NVML_ERROR_DRIVER_NOT_LOADED;
    int planned = simgpu->armed ? simgpu_planned_error("nvmlInit") : 0;
    if (planned)
        return (nvmlReturn_t)planned;
    int cards[SIMGPU_MAX_CARDS];
    simgpu_nvml_count = (unsigned)simgpu_visible_cards(cards);
    for (unsigned index = 0; index < simgpu_nvml_count; index++)
        simgpu_nvml_devices[index] = (struct nvmlDevice_st){cards[index], index};
    return NVML_SUCCESS;
}

/* No flag changes anything here: a machine without cards is no error, and nothing needs attaching. */
nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    pthread_mutex_lock(&init_lock);
    nvmlReturn_t result = users ? NVML_SUCCESS : start();
    if (result == NVML_SUCCESS)
        users++;
    pthread_mutex_unlock(&init_lock);
    return result;
}

nvmlReturn_t nvmlInit_v2(void) {
    return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlInit(void) {
    return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlShutdown(void) {
    pthread_mutex_lock(&init_lock);
    bool open = users > 0;
    users -= open;
    pthread_mutex_unlock(&init_lock);
    return open ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t simgpu_give_text(const char *text, char *out, unsigned length) {
    SIMGPU_NEED(out, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(strlen(text) < length, NVML_ERROR_INSUFFICIENT_SIZE);
    strcpy(out, text);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    SIMGPU_ENTER();
    return simgpu_give_text(simgpu->driver_version, version, length);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    int attached = simgpu_attach();
    SIMGPU_NEED(attached == 0, NVML_ERROR_DRIVER_NOT_LOADED);
    return simgpu_give_text(simgpu->nvml_version, version, length);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    SIMGPU_NEED(version, NVML_ERROR_INVALID_ARGUMENT);
    SIMGPU_NEED(simgpu_attach() == 0, NVML_ERROR_LIBRARY_NOT_FOUND);
    *version = (int)simgpu->cuda_version;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length) {
    SIMGPU_ENTER();
    SIMGPU_NEED(name && length, NVML_ERROR_INVALID_ARGUMENT);
    char path[64], line[4096];
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "r");
    SIMGPU_NEED(file, NVML_ERROR_NOT_FOUND);
    size_t size = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[size] = 0;
    return simgpu_give_text(line, name, length);
}

static const struct {
    nvmlReturn_t code;
    const char *text;
} texts[] = {
    {NVML_SUCCESS, "Success"},
    {NVML_ERROR_UNINITIALIZED, "Uninitialized"},
    {NVML_ERROR_INVALID_ARGUMENT, "Invalid Argument"},
    {NVML_ERROR_NOT_SUPPORTED, "Not Supported"},
    {NVML_ERROR_NO_PERMISSION, "Insufficient Permissions"},
    {NVML_ERROR_NOT_FOUND, "Not Found"},
    {NVML_ERROR_INSUFFICIENT_SIZE, "Insufficient Size"},
    {NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"},
    {NVML_ERROR_TIMEOUT, "Timeout"},
    {NVML_ERROR_LIBRARY_NOT_FOUND, "NVML Shared Library Not Found"},
    {NVML_ERROR_FUNCTION_NOT_FOUND, "Function Not Found"},
    {NVML_ERROR_GPU_IS_LOST, "GPU is lost"},
    {NVML_ERROR_RESET_REQUIRED, "GPU requires reset"},
    {NVML_ERROR_OPERATING_SYSTEM, "The operating system has blocked the request"},
    {NVML_ERROR_LIB_RM_VERSION_MISMATCH, "Driver/library version mismatch"},
    {NVML_ERROR_IN_USE, "In use by another client"},
    {NVML_ERROR_MEMORY, "Insufficient Memory"},
    {NVML_ERROR_NO_DATA, "No data"},
    {NVML_ERROR_INSUFFICIENT_RESOURCES, "Insufficient Resources"},
    {NVML_ERROR_ARGUMENT_VERSION_MISMATCH, "Argument version mismatch"},
    {NVML_ERROR_GPU_NOT_FOUND, "GPU not found"},
};

const char *nvmlErrorString(nvmlReturn_t result) {
    for (unsigned row = 0; row < sizeof texts / sizeof texts[0]; row++)
        if (texts[row].code == result)
            return texts[row].text;
    return "Unknown Error";
}
