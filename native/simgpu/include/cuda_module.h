/*
 * Behind CUmodule and CUlibrary: the names that an image declares, and globals made on demand.
 */
#ifndef SIMGPU_CUDA_MODULE_H
#define SIMGPU_CUDA_MODULE_H

#include "cuda_api.h"

struct simgpu_global {
    struct simgpu_global *next;
    CUdeviceptr address;
    size_t size;
    char name[];
};

struct CUmod_st {
    CUcontext context;
    int card;
    bool is_ptx;
    uint64_t charged;
    uint64_t charged_lazily;
    bool launched;
    struct CUfunc_st *functions;
    struct simgpu_global *globals;
};

/* Reads the entries of a PTX text into the module. False when the image is not PTX. */
bool simgpu_read_ptx(CUmodule module, const char *image);
CUfunction simgpu_add_function(CUmodule module, const char *name, size_t length);
CUfunction simgpu_find_function(CUmodule module, const char *name);

#endif
