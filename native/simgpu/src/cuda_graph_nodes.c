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

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *out) {
    SIMGPU_ENTER();
    SIMGPU_NEED(node && out && node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC, CUDA_ERROR_INVALID_VALUE);
    struct simgpu_block *block = simgpu_find_block(node->to);
    *out = (CUDA_MEM_ALLOC_NODE_PARAMS){.bytesize = node->bytes, .dptr = node->to};
    out->poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    out->poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    out->poolProps.location.id = block ? simgpu_ordinal(block->card) : 0;
    return CUDA_SUCCESS;
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *out) {
    SIMGPU_ENTER();
    SIMGPU_NEED(node && out && node->type == CU_GRAPH_NODE_TYPE_GRAPH, CUDA_ERROR_INVALID_VALUE);
    *out = node->child;
    return CUDA_SUCCESS;
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUdeviceptr address) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph && address, CUDA_ERROR_INVALID_VALUE);
    CUgraphNode node = simgpu_new_node(graph, CU_GRAPH_NODE_TYPE_MEM_FREE, after, count);
    SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
    node->to = address;
    return finish(node, out);
}

static CUresult add_kernel(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                           const CUDA_KERNEL_NODE_PARAMS_v3 *from) {
    CUDA_KERNEL_NODE_PARAMS kernel = {.func = from->func, .kern = from->kern, .kernelParams = from->kernelParams};
    kernel.gridDimX = from->gridDimX, kernel.gridDimY = from->gridDimY, kernel.gridDimZ = from->gridDimZ;
    kernel.blockDimX = from->blockDimX, kernel.blockDimY = from->blockDimY, kernel.blockDimZ = from->blockDimZ;
    kernel.extra = from->extra;
    return cuGraphAddKernelNode_v2(out, graph, after, count, &kernel);
}

static CUresult add_allocation(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                               CUDA_MEM_ALLOC_NODE_PARAMS_v2 *wanted) {
    CUDA_MEM_ALLOC_NODE_PARAMS allocation = {.poolProps = wanted->poolProps, .bytesize = wanted->bytesize};
    CUresult result = cuGraphAddMemAllocNode(out, graph, after, count, &allocation);
    wanted->dptr = allocation.dptr;
    return result;
}

/* One call for every kind of node; the kinds that programs of tests use. */
CUresult cuGraphAddNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, const CUgraphEdgeData *edges,
                           size_t count, CUgraphNodeParams *wanted) {
    SIMGPU_ENTER();
    (void)edges;
    SIMGPU_NEED(out && graph && wanted, CUDA_ERROR_INVALID_VALUE);
    switch ((int)wanted->type) {
    case CU_GRAPH_NODE_TYPE_EMPTY: return cuGraphAddEmptyNode(out, graph, after, count);
    case CU_GRAPH_NODE_TYPE_KERNEL: return add_kernel(out, graph, after, count, &wanted->kernel);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: return add_allocation(out, graph, after, count, &wanted->alloc);
    case CU_GRAPH_NODE_TYPE_MEM_FREE: return cuGraphAddMemFreeNode(out, graph, after, count, wanted->free.dptr);
    default: return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult cuGraphAddNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUgraphNodeParams *wanted) {
    return cuGraphAddNode_v2(out, graph, after, NULL, count, wanted);
}

CUresult cuGraphAddNode_v3(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, const CUgraphEdgeData *edges,
                           size_t count, CUgraphNodeParams *wanted) {
    return cuGraphAddNode_v2(out, graph, after, edges, count, wanted);
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *parameters) {
    SIMGPU_ENTER();
    SIMGPU_NEED(node && parameters && node->type == CU_GRAPH_NODE_TYPE_KERNEL, CUDA_ERROR_INVALID_VALUE);
    struct simgpu_launch launch = launch_of(parameters);
    return simgpu_keep_launch(node, &launch);
}
