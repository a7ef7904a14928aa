/*
 * How programs find functions at run time, and the names of errors.
 */
#include "cuda_api.h"

#include <string.h>

static void *look_up(const char *symbol, int version, cuuint64_t flags, bool *known) {
    bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    unsigned low = 0, high = simgpu_proc_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (strcmp(simgpu_procs[middle].symbol, symbol) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    void *best = NULL;
    for (; low < simgpu_proc_count && strcmp(simgpu_procs[low].symbol, symbol) == 0; low++) {
        *known = true;
        if (simgpu_procs[low].version <= version)
            best = per_thread ? simgpu_procs[low].per_thread : simgpu_procs[low].plain;
    }
    return best;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **out, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *status) {
    SIMGPU_NEED(symbol && out && flags <= 3, CUDA_ERROR_INVALID_VALUE);
    bool known = false;
    *out = look_up(symbol, version, flags, &known);
    if (status)
        *status = *out    ? CU_GET_PROC_ADDRESS_SUCCESS
                  : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                          : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *out || status ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char *symbol, void **out, int version, cuuint64_t flags) {
    return cuGetProcAddress_v2(symbol, out, version, flags, NULL);
}

CUresult cuGetExportTable(const void **table, const CUuuid *id) {
    (void)table, (void)id;
    return CUDA_ERROR_NOT_SUPPORTED;
}

/* "CUDA_ERROR_OUT_OF_MEMORY" -> "out of memory": the same words for name and text. */
static const struct {
    CUresult code;
    const char *name;
    const char *text;
} errors[] = {
#define SIMGPU_ERROR(name, text) {name, #name, text},
#include "../gen/cuda_errors.inc"
#undef SIMGPU_ERROR
};

CUresult cuGetErrorName(CUresult error, const char **name) {
    SIMGPU_NEED(name, CUDA_ERROR_INVALID_VALUE);
    *name = NULL;
    for (unsigned at = 0; at < sizeof errors / sizeof errors[0]; at++)
        if (errors[at].code == error)
            *name = errors[at].name;
    return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    SIMGPU_NEED(text, CUDA_ERROR_INVALID_VALUE);
    *text = NULL;
    for (unsigned at = 0; at < sizeof errors / sizeof errors[0]; at++)
        if (errors[at].code == error)
            *text = errors[at].text;
    return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuProfilerStart(void) {
    SIMGPU_ENTER();
    return CUDA_SUCCESS;
}

CUresult cuProfilerStop(void) {
    SIMGPU_ENTER();
    return CUDA_SUCCESS;
}
