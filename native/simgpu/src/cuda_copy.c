/*
 * Copies and fills: real bytes between real addresses.
 *
 * Contents change when a call is made; the stream's clock moves by what the transfer would take, so
 * that later work of the stream starts no earlier. Copy engines do not count as busy compute.
 */
#include "cuda_api.h"

#include <string.h>

#define BYTES_PER_NS 12 /* a PCIe 3.0 x16 link */

void simgpu_copy_cost(CUstream stream, uint64_t bytes) {
    if (simgpu_counting_only)
        return;
    uint64_t now = simgpu_now();
    stream->last_end = (stream->last_end > now ? stream->last_end : now) + bytes / BYTES_PER_NS;
}

static bool touches_counted(CUdeviceptr a, CUdeviceptr b) {
    return simgpu_counting_only && ((a | b) >> 61 & 1);
}

CUresult simgpu_run_copy(CUstream stream, CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    if (!touches_counted(to, from))
        memmove((void *)to, (const void *)from, bytes);
    simgpu_copy_cost(stream, bytes);
    return CUDA_SUCCESS;
}

/* Whether [address, +bytes) lies in one allocation of the card; host addresses are not asked about. */
static bool is_device_range(CUdeviceptr address, size_t bytes) {
    if (touches_counted(address, 0))
        return true;
    struct simgpu_block *block = simgpu_find_block(address);
    return block && bytes <= block->size - (address - block->base);
}

static CUresult copy(CUstream handle, CUdeviceptr to, CUdeviceptr from, size_t bytes, bool wait) {
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    if (stream->capture)
        return wait ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : simgpu_capture_copy(stream, to, from, bytes);
    if (wait)
        simgpu_stream_ready(stream);
    return simgpu_run_copy(stream, to, from, bytes);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device_range(to, bytes), CUDA_ERROR_INVALID_VALUE);
    return copy(NULL, to, (CUdeviceptr)from, bytes, true);
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device_range(from, bytes), CUDA_ERROR_INVALID_VALUE);
    return copy(NULL, (CUdeviceptr)to, from, bytes, true);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device_range(to, bytes) && is_device_range(from, bytes), CUDA_ERROR_INVALID_VALUE);
    return copy(NULL, to, from, bytes, true);
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    SIMGPU_ENTER();
    return copy(NULL, to, from, bytes, true);
}

CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes) {
    SIMGPU_ENTER();
    SIMGPU_NEED(to_context && from_context, CUDA_ERROR_INVALID_CONTEXT);
    return copy(NULL, to, from, bytes, true);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device_range(to, bytes), CUDA_ERROR_INVALID_VALUE);
    return copy(stream, to, (CUdeviceptr)from, bytes, false);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device_range(from, bytes), CUDA_ERROR_INVALID_VALUE);
    return copy(stream, (CUdeviceptr)to, from, bytes, false);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    SIMGPU_ENTER();
    SIMGPU_NEED(is_device_range(to, bytes) && is_device_range(from, bytes), CUDA_ERROR_INVALID_VALUE);
    return copy(stream, to, from, bytes, false);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    SIMGPU_ENTER();
    return copy(stream, to, from, bytes, false);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t bytes, CUstream stream) {
    SIMGPU_ENTER();
    SIMGPU_NEED(to_context && from_context, CUDA_ERROR_INVALID_CONTEXT);
    return copy(stream, to, from, bytes, false);
}

CUresult simgpu_run_set(CUstream stream, CUdeviceptr to, unsigned value, unsigned width, size_t count) {
    if (!touches_counted(to, 0)) {
        if (width == 1)
            memset((void *)to, (int)value, count);
        for (size_t at = 0; width == 2 && at < count; at++)
            ((uint16_t *)to)[at] = (uint16_t)value;
        for (size_t at = 0; width == 4 && at < count; at++)
            ((uint32_t *)to)[at] = value;
    }
    simgpu_copy_cost(stream, count * width / 64);
    return CUDA_SUCCESS;
}

static CUresult set(CUstream handle, CUdeviceptr to, unsigned value, unsigned width, size_t count) {
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(to % width == 0 && is_device_range(to, count * width), CUDA_ERROR_INVALID_VALUE);
    if (stream->capture)
        return simgpu_capture_set(stream, to, value, width, count);
    return simgpu_run_set(stream, to, value, width, count);
}

static CUresult set_rows(CUstream handle, CUdeviceptr to, size_t pitch, unsigned value, unsigned width, size_t columns,
                         size_t rows) {
    for (size_t row = 0; row < rows; row++) {
        CUresult result = set(handle, to + row * pitch, value, width, columns);
        if (result != CUDA_SUCCESS)
            return result;
    }
    return CUDA_SUCCESS;
}

#define FILL(bits, kind)                                                                                     \
    CUresult cuMemsetD##bits##_v2(CUdeviceptr to, kind value, size_t count) {                                \
        SIMGPU_ENTER();                                                                                      \
        return set(NULL, to, value, bits / 8, count);                                                        \
    }                                                                                                        \
    CUresult cuMemsetD##bits##Async(CUdeviceptr to, kind value, size_t count, CUstream stream) {             \
        SIMGPU_ENTER();                                                                                      \
        return set(stream, to, value, bits / 8, count);                                                      \
    }                                                                                                        \
    CUresult cuMemsetD2D##bits##_v2(CUdeviceptr to, size_t pitch, kind value, size_t width, size_t height) { \
        SIMGPU_ENTER();                                                                                      \
        return set_rows(NULL, to, pitch, value, bits / 8, width, height);                                    \
    }                                                                                                        \
    CUresult cuMemsetD2D##bits##Async(CUdeviceptr to, size_t pitch, kind value, size_t width, size_t height, \
                                      CUstream stream) {                                                     \
        SIMGPU_ENTER();                                                                                      \
        return set_rows(stream, to, pitch, value, bits / 8, width, height);                                  \
    }
FILL(8, unsigned char)
FILL(16, unsigned short)
FILL(32, unsigned int)
