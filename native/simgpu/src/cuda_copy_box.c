/*
 * Copies of rectangles and boxes, between linear memory, host memory and arrays.
 */
#include "cuda_array.h"

#include <string.h>

struct side {
    char *base;
    size_t pitch, height;
};

static struct side side_of(CUmemorytype type, const void *host, CUdeviceptr device, CUarray array, size_t pitch,
                           size_t height) {
    if (type == CU_MEMORYTYPE_ARRAY && array) {
        size_t rows = array->shape.Height ? array->shape.Height : 1;
        return (struct side){(char *)array->memory, array->shape.Width * array->element, rows};
    }
    return (struct side){type == CU_MEMORYTYPE_HOST ? (char *)host : (char *)device, pitch, height};
}

static CUresult copy_box(const CUDA_MEMCPY3D *box, CUstream handle, bool wait) {
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(box, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(!stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    struct side from = side_of(box->srcMemoryType, box->srcHost, box->srcDevice, box->srcArray, box->srcPitch, box->srcHeight);
    struct side to = side_of(box->dstMemoryType, box->dstHost, box->dstDevice, box->dstArray, box->dstPitch, box->dstHeight);
    SIMGPU_NEED(from.base && to.base, CUDA_ERROR_INVALID_VALUE);
    if (wait)
        simgpu_stream_ready(stream);
    for (size_t layer = 0; layer < box->Depth && !simgpu_counting_only; layer++)
        for (size_t row = 0; row < box->Height; row++) {
            char *target = to.base + ((box->dstZ + layer) * to.height + box->dstY + row) * to.pitch + box->dstXInBytes;
            char *source = from.base + ((box->srcZ + layer) * from.height + box->srcY + row) * from.pitch + box->srcXInBytes;
            memmove(target, source, box->WidthInBytes);
        }
    simgpu_copy_cost(stream, box->WidthInBytes * box->Height * box->Depth);
    return CUDA_SUCCESS;
}

static CUresult copy_rectangle(const CUDA_MEMCPY2D *flat, CUstream stream, bool wait) {
    SIMGPU_NEED(flat, CUDA_ERROR_INVALID_VALUE);
    CUDA_MEMCPY3D box = {.srcXInBytes = flat->srcXInBytes, .srcY = flat->srcY, .srcMemoryType = flat->srcMemoryType};
    box.srcHost = flat->srcHost, box.srcDevice = flat->srcDevice, box.srcArray = flat->srcArray;
    box.srcPitch = flat->srcPitch, box.dstXInBytes = flat->dstXInBytes, box.dstY = flat->dstY;
    box.dstMemoryType = flat->dstMemoryType, box.dstHost = flat->dstHost, box.dstDevice = flat->dstDevice;
    box.dstArray = flat->dstArray, box.dstPitch = flat->dstPitch;
    box.WidthInBytes = flat->WidthInBytes, box.Height = flat->Height, box.Depth = 1;
    return copy_box(&box, stream, wait);
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *copy) {
    SIMGPU_ENTER();
    return copy_rectangle(copy, NULL, true);
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *copy) {
    SIMGPU_ENTER();
    return copy_rectangle(copy, NULL, true);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream) {
    SIMGPU_ENTER();
    return copy_rectangle(copy, stream, false);
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *copy) {
    SIMGPU_ENTER();
    return copy_box(copy, NULL, true);
}

CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *copy, CUstream stream) {
    SIMGPU_ENTER();
    return copy_box(copy, stream, false);
}

/* Copies between an array and linear memory are rows end to end. */
static CUresult copy_line(char *to, const char *from, size_t bytes, CUstream handle, bool wait) {
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    if (wait)
        simgpu_stream_ready(stream);
    return simgpu_run_copy(stream, (CUdeviceptr)to, (CUdeviceptr)from, bytes);
}

CUresult cuMemcpyHtoA_v2(CUarray to, size_t offset, const void *from, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(to && from, CUDA_ERROR_INVALID_VALUE);
    return copy_line((char *)to->memory + offset, from, bytes, NULL, true);
}

CUresult cuMemcpyAtoH_v2(void *to, CUarray from, size_t offset, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(to && from, CUDA_ERROR_INVALID_VALUE);
    return copy_line(to, (char *)from->memory + offset, bytes, NULL, true);
}

CUresult cuMemcpyDtoA_v2(CUarray to, size_t offset, CUdeviceptr from, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(to && from, CUDA_ERROR_INVALID_VALUE);
    return copy_line((char *)to->memory + offset, (char *)from, bytes, NULL, true);
}

CUresult cuMemcpyAtoD_v2(CUdeviceptr to, CUarray from, size_t offset, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(to && from, CUDA_ERROR_INVALID_VALUE);
    return copy_line((char *)to, (char *)from->memory + offset, bytes, NULL, true);
}
