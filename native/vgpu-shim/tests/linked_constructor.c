/* A static constructor that uses the driver, by both ways, before main and before most libraries are set up. Prints
 * what linked_limit prints, twice. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

#include "../src/generated/vendor.h"

extern CUresult cuInit(unsigned flags);
extern CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice ordinal);
extern CUresult cuCtxSetCurrent(CUcontext context);
extern CUresult cuMemGetInfo_v2(size_t *free, size_t *total);
extern CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size);

static size_t totals[2];
static CUresult results[2];

__attribute__((constructor(101))) static void before_main(void) {
    CUcontext context;
    CUdeviceptr address;
    size_t free;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return;
    if (cuMemGetInfo_v2(&free, &totals[0])) return;
    results[0] = cuMemAlloc_v2(&address, free + 1);
    vgpu_fn_cuMemGetInfo_v2 ask = (vgpu_fn_cuMemGetInfo_v2)dlsym(RTLD_DEFAULT, "cuMemGetInfo_v2");
    vgpu_fn_cuMemAlloc_v2 take = (vgpu_fn_cuMemAlloc_v2)dlsym(RTLD_DEFAULT, "cuMemAlloc_v2");
    if (!ask || !take || ask(&free, &totals[1])) return;
    results[1] = take(&address, free + 1);
}

int main(void) {
    printf("%zu %u %zu %u\n", totals[0], results[0], totals[1], results[1]);
    return 0;
}
