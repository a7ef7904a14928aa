/*
 * Nodes made by hand: one call per kind of work.
 */
#include "cuda_graph.h"

#include <stdlib.h>

static CUresult finish(CUgraphNode node, CUgraphNode *out) {
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    if (out)
        *out = node;
    return CUDA_SUCCESS;
}

CUresult cuGraphAddEmptyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph, CUDA_ERROR_INVALID_VALUE);
    return finish(simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_EMPTY, after, count), out);
}

static struct simgpu_launch launch_of(const CUDA_KERNEL_NODE_PARAMS *node) {
    CUfunction function = node->func ? node->func : (CUfunction)node->kern;
    return (struct simgpu_launch){function,
                                  {node->gridDimX, node->gridDimY, node->gridDimZ},
                                  {node->blockDimX, node->blockDimY, node->blockDimZ},
                                  node->kernelParams,
                                  node->extra};
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                                 const CUDA_KERNEL_NODE_PARAMS *parameters) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && parameters, CUDA_ERROR_INVALID_VALUE);
    struct simgpu_launch launch = launch_of(parameters);
    SIMGPU_NEED(launch.function, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_KERNEL, after, count);
    CUresult result = finish(node, out);
    return result == CUDA_SUCCESS ? simgpu_keep_launch(node, &launch) : result;
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                              const CUDA_MEMCPY3D *copy, CUcontext context) {
    SIMGPU_ENTER();
    (void)context;
    SIMGPU_NEED(out && graph && copy, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(copy->Height <= 1 && copy->Depth <= 1, CUDA_ERROR_NOT_SUPPORTED);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_MEMCPY, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    bool to_host = copy->dstMemoryType == CU_MEMORYTYPE_HOST, from_host = copy->srcMemoryType == CU_MEMORYTYPE_HOST;
    node->to = (to_host ? (CUdeviceptr)copy->dstHost : copy->dstDevice) + copy->dstXInBytes;
    node->from = (from_host ? (CUdeviceptr)copy->srcHost : copy->srcDevice) + copy->srcXInBytes;
    node->bytes = copy->WidthInBytes;
    return finish(node, out);
}

CUresult cuGraphAddMemsetNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                              const CUDA_MEMSET_NODE_PARAMS *set, CUcontext context) {
    SIMGPU_ENTER();
    (void)context;
    SIMGPU_NEED(out && graph && set, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_MEMSET, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->to = set->dst, node->value = set->value, node->width = set->elementSize;
    node->bytes = set->width, node->rows = set->height, node->pitch = set->pitch;
    return finish(node, out);
}

CUresult cuGraphAddHostNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                            const CUDA_HOST_NODE_PARAMS *host) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && host, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_HOST, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->host = host->fn, node->argument = host->userData;
    return finish(node, out);
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUgraph child) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && child, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_GRAPH, after, count);
    SIMGPU_NEED(node && (node->child = simgpu_copy_graph(child)), CUDA_ERROR_OUT_OF_MEMORY);
    node->child->owned = true;
    return finish(node, out);
}

CUresult cuGraphAddEventRecordNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUevent event) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && event, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_EVENT_RECORD, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->event = event;
    return finish(node, out);
}

CUresult cuGraphAddEventWaitNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUevent event) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && event, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_WAIT_EVENT, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->event = event;
    return finish(node, out);
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                                CUDA_MEM_ALLOC_NODE_PARAMS *allocation) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && allocation && allocation->bytesize, CUDA_ERROR_INVALID_VALUE);
    CUresult result = simgpu_reserve_graph_memory(allocation->bytesize, &allocation->dptr);
    SIMGPU_NEED(result == CUDA_SUCCESS, result);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_MEM_ALLOC, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->to = allocation->dptr, node->bytes = allocation->bytesize;
    return finish(node, out);
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUdeviceptr address) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && address, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_MEM_FREE, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->to = address;
    return finish(node, out);
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *parameters) {
    SIMGPU_ENTER();
    SIMGPU_NEED(node && parameters && node->type == CU_GRAPH_NODE_TYPE_KERNEL, CUDA_ERROR_INVALID_VALUE);
    struct simgpu_launch launch = launch_of(parameters);
    return simgpu_keep_launch(node, &launch);
}
