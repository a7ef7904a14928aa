/* The first way in: linked with libcuda, the shim comes first in symbol order. Prints total and the result
 * of asking for one byte more than is free. */
#include <stdio.h>

#include "../src/generated/vendor.h"

extern CUresult cuInit(unsigned flags);
extern CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice ordinal);
extern CUresult cuCtxSetCurrent(CUcontext context);
extern CUresult cuMemGetInfo_v2(size_t *free, size_t *total);
extern CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size);

int main(void) {
    CUcontext context;
    CUdeviceptr address;
    size_t free, total;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
    if (cuMemGetInfo_v2(&free, &total)) return 2;
    printf("%zu %u\n", total, cuMemAlloc_v2(&address, free + 1));
    return 0;
}
