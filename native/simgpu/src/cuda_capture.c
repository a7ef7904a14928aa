/*
 * Stream capture: what is put into the stream becomes a chain of nodes in place of work.
 */
#include "cuda_graph.h"

CUgraphNode simgpu_captured_node(CUstream stream, CUgraphNodeType type) {
    CUgraphNode tail = stream->capture_tail;
    CUgraphNode node = simgpu_new_node(stream->capture, type, &tail, tail ? 1 : 0);
    if (node)
        stream->capture_tail = node;
    return node;
}

CUresult simgpu_capture_launch(const struct simgpu_launch *launch, CUstream stream) {
    CUgraphNode node = simgpu_captured_node(stream, CU_GRAPH_NODE_TYPE_KERNEL);
    return node ? simgpu_keep_launch(node, launch) : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult simgpu_capture_copy(CUstream stream, CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    CUgraphNode node = simgpu_captured_node(stream, CU_GRAPH_NODE_TYPE_MEMCPY);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->to = to, node->from = from, node->bytes = bytes;
    return CUDA_SUCCESS;
}

CUresult simgpu_capture_set(CUstream stream, CUdeviceptr to, unsigned value, unsigned width, size_t count) {
    CUgraphNode node = simgpu_captured_node(stream, CU_GRAPH_NODE_TYPE_MEMSET);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->to = to, node->value = value, node->width = width, node->bytes = count, node->rows = 1;
    return CUDA_SUCCESS;
}

CUresult simgpu_capture_host(CUstream stream, CUhostFn function, void *argument) {
    CUgraphNode node = simgpu_captured_node(stream, CU_GRAPH_NODE_TYPE_HOST);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->host = function, node->argument = argument;
    return CUDA_SUCCESS;
}

CUresult simgpu_capture_allocation(CUstream stream, size_t bytes, CUdeviceptr *address) {
    CUgraphNode node = simgpu_captured_node(stream, CU_GRAPH_NODE_TYPE_MEM_ALLOC);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->bytes = bytes;
    CUresult result = simgpu_reserve_graph_memory(bytes, address);
    node->to = *address;
    return result;
}

CUresult simgpu_capture_free(CUstream stream, CUdeviceptr address) {
    CUgraphNode node = simgpu_captured_node(stream, CU_GRAPH_NODE_TYPE_MEM_FREE);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->to = address;
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
    SIMGPU_ENTER();
    (void)mode;
    SIMGPU_NEED((uintptr_t)handle > 2 || handle == CU_STREAM_PER_THREAD, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && !stream->capture, CUDA_ERROR_ILLEGAL_STATE);
    stream->capture = simgpu_new_graph();
    stream->capture_tail = NULL;
    stream->capture_id = simgpu_next_id();
    return stream->capture ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *out) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && out, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(stream->capture, CUDA_ERROR_ILLEGAL_STATE);
    *out = stream->capture;
    stream->capture = NULL;
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(stream && status, CUDA_ERROR_INVALID_VALUE);
    *status = stream->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **after, const CUgraphEdgeData **edges, size_t *count) {
    CUresult result = cuStreamIsCapturing(handle, status);
    CUstream stream = result == CUDA_SUCCESS ? simgpu_stream(handle) : NULL;
    if (!stream || !stream->capture)
        return result;
    if (id)
        *id = stream->capture_id;
    if (graph)
        *graph = stream->capture;
    if (after)
        *after = &stream->capture_tail;
    if (edges)
        *edges = NULL;
    if (count)
        *count = stream->capture_tail != NULL;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **after, size_t *count) {
    return cuStreamGetCaptureInfo_v3(handle, status, id, graph, after, NULL, count);
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id) {
    return cuStreamGetCaptureInfo_v3(handle, status, id, NULL, NULL, NULL, NULL);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
    static SIMGPU_FAST_TLS CUstreamCaptureMode own = CU_STREAM_CAPTURE_MODE_GLOBAL;
    SIMGPU_ENTER();
    SIMGPU_NEED(mode, CUDA_ERROR_INVALID_VALUE);
    CUstreamCaptureMode previous = own;
    own = *mode;
    *mode = previous;
    return CUDA_SUCCESS;
}
