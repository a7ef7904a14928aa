/*
 * Planned failures: simgpuctl writes them into the state, the n-th next call of the function hits them.
 */
#include "simgpu_core.h"

#include <string.h>

/* Length of the name without a version (_v2) or stream (_ptsz, _ptds) suffix. */
static size_t stem_length(const char *name) {
    size_t length = strlen(name);
    if (length > 5 && (!strcmp(name + length - 5, "_ptsz") || !strcmp(name + length - 5, "_ptds")))
        length -= 5;
    if (length > 3 && name[length - 3] == '_' && name[length - 2] == 'v')
        length -= 3;
    return length;
}

static bool names_match(const char *planned, const char *called) {
    if (strcmp(planned, called) == 0)
        return true;
    return stem_length(planned) == strlen(planned) && stem_length(called) == strlen(planned) &&
           strncmp(planned, called, strlen(planned)) == 0;
}

static int hit(struct simgpu_fault *fault) {
    uint64_t left = fault->countdown;
    while (left > 1)
        if (atomic_compare_exchange_weak(&fault->countdown, &left, left - 1))
            return 0;
    fault->hits++;
    if (atomic_fetch_sub(&fault->repeat, 1) == 1) {
        fault->active = 0;
        simgpu->armed--;
    }
    return (int)fault->code;
}

int simgpu_planned_error(const char *function) {
    for (int number = 0; number < SIMGPU_MAX_FAULTS; number++) {
        struct simgpu_fault *fault = &simgpu->faults[number];
        if (fault->active && names_match(fault->function, function))
            return hit(fault);
    }
    return 0;
}
