/* The driver as a probe reaches it: by dlopen and dlsym, as most clients do. */
#ifndef PROBE_DRIVER_H
#define PROBE_DRIVER_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "../src/generated/vendor.h"

static inline void *function(const char *name) {
    static void *library;
    if (!library) library = dlopen("libcuda.so.1", RTLD_NOW);
    void *found = library ? dlsym(library, name) : 0;
    if (!found) {
        fprintf(stderr, "%s is not to be had\n", name);
        exit(2);
    }
    return found;
}

#define CALL(type, name) ((vgpu_fn_##type)function(name))

static inline void must(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS) return;
    fprintf(stderr, "%s: %u\n", what, result);
    exit(2);
}

static inline CUcontext use_device(int ordinal) {
    CUcontext context;
    must(((CUresult (*)(unsigned))function("cuInit"))(0), "cuInit");
    must(CALL(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain")(&context, ordinal), "cuDevicePrimaryCtxRetain");
    must(((CUresult (*)(CUcontext))function("cuCtxSetCurrent"))(context), "cuCtxSetCurrent");
    return context;
}

#endif
