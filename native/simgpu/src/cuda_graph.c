/*
 * Graphs: recorded work that is launched as a whole, made by hand or by capturing a stream.
 *
 * Nodes run in the order in which they were added. A node's dependencies can only name earlier nodes,
 * so that order is always a valid one; edges are remembered for those who ask.
 */
#include "cuda_graph.h"

#include <stdlib.h>
#include <string.h>

struct CUgraphExec_st {
    CUgraph graph;
};

CUgraph simgpu_new_graph(void) {
    CUgraph graph = calloc(1, sizeof *graph);
    if (graph)
        graph->last = &graph->first;
    return graph;
}

static void add_edge(CUgraph graph, CUgraphNode from, CUgraphNode to) {
    struct simgpu_edge *grown = realloc(graph->edges, (graph->edge_count + 1) * sizeof *grown);
    if (!grown)
        return;
    graph->edges = grown;
    graph->edges[graph->edge_count++] = (struct simgpu_edge){from, to};
}

CUgraphNode simgpu_new_node(CUgraph graph, CUgraphNodeType type, const CUgraphNode *after, size_t count) {
    CUgraphNode node = graph ? calloc(1, sizeof *node) : NULL;
    if (!node)
        return NULL;
    node->graph = graph;
    node->type = type;
    *graph->last = node;
    graph->last = &node->next;
    graph->count++;
    for (size_t at = 0; after && at < count; at++)
        add_edge(graph, after[at], node);
    return node;
}

CUresult simgpu_keep_launch(CUgraphNode node, const struct simgpu_launch *launch) {
    CUfunction function = launch->function;
    SIMGPU_NEED(function, CUDA_ERROR_INVALID_VALUE);
    unsigned count = function->parameter_count;
    size_t size = count ? function->parameter_offset[count - 1] + function->parameter_size[count - 1] : 0;
    char *values = calloc(1, count * sizeof(void *) + size + 1);
    SIMGPU_NEED(values, CUDA_ERROR_OUT_OF_MEMORY);
    void **pointers = (void **)values;
    char *area = values + count * sizeof(void *);
    const char *buffer = NULL;
    for (void **at = launch->extra; at && *at != CU_LAUNCH_PARAM_END; at += 2)
        if (*at == CU_LAUNCH_PARAM_BUFFER_POINTER)
            buffer = at[1];
    for (unsigned at = 0; at < count; at++) {
        const void *from = launch->parameters ? launch->parameters[at] : buffer ? buffer + function->parameter_offset[at] : NULL;
        pointers[at] = area + function->parameter_offset[at];
        if (from)
            memcpy(pointers[at], from, function->parameter_size[at]);
    }
    free(node->values);
    node->values = values;
    node->launch = *launch;
    node->launch.parameters = pointers;
    node->launch.extra = NULL;
    return CUDA_SUCCESS;
}

static CUresult run_graph(CUgraph graph, CUstream stream);

static CUresult run_fill(CUgraphNode node, CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    for (size_t row = 0; row < node->rows && result == CUDA_SUCCESS; row++)
        result = simgpu_run_set(stream, node->to + row * node->pitch, node->value, node->width, node->bytes);
    return result;
}

static CUresult run_node(CUgraphNode node, CUstream stream) {
    switch ((int)node->type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: return simgpu_run_launch(&node->launch, stream);
    case CU_GRAPH_NODE_TYPE_MEMCPY: return simgpu_run_copy(stream, node->to, node->from, node->bytes);
    case CU_GRAPH_NODE_TYPE_MEMSET: return run_fill(node, stream);
    case CU_GRAPH_NODE_TYPE_HOST: simgpu_call_later(stream, node->host, node->argument); return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_GRAPH: return run_graph(node->child, stream);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: return simgpu_back_graph_memory(node->to);
    case CU_GRAPH_NODE_TYPE_MEM_FREE: return simgpu_unback_graph_memory(node->to);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD: return cuEventRecord(node->event, stream);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT: return cuStreamWaitEvent(stream, node->event, 0);
    default: return CUDA_SUCCESS;
    }
}

static CUresult run_graph(CUgraph graph, CUstream stream) {
    CUresult result = CUDA_SUCCESS;
    for (CUgraphNode node = graph->first; node && result == CUDA_SUCCESS; node = node->next)
        result = run_node(node, stream);
    return result;
}

CUresult cuGraphCreate(CUgraph *out, unsigned int flags) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && flags == 0, CUDA_ERROR_INVALID_VALUE);
    *out = simgpu_new_graph();
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static void destroy_graph(CUgraph graph) {
    while (graph->first) {
        CUgraphNode node = graph->first;
        graph->first = node->next;
        if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
            simgpu_drop_graph_memory(node->to);
        if (node->child)
            destroy_graph(node->child);
        free(node->values);
        free(node);
    }
    free(graph->edges);
    free(graph);
}

CUresult cuGraphDestroy(CUgraph graph) {
    SIMGPU_ENTER();
    SIMGPU_NEED(graph && !graph->owned, CUDA_ERROR_INVALID_VALUE);
    destroy_graph(graph);
    return CUDA_SUCCESS;
}

static CUresult fill_copied_node(CUgraphNode copy, CUgraphNode node);

CUgraph simgpu_copy_graph(CUgraph graph) {
    CUgraph copy = simgpu_new_graph();
    for (CUgraphNode node = graph->first; copy && node; node = node->next) {
        CUgraphNode fresh = simgpu_new_node(copy, node->type, NULL, 0);
        if (!fresh || fill_copied_node(fresh, node) != CUDA_SUCCESS) {
            destroy_graph(copy);
            return NULL;
        }
    }
    return copy;
}

static CUresult fill_copied_node(CUgraphNode copy, CUgraphNode node) {
    CUgraph graph = copy->graph;
    *copy = *node;
    copy->graph = graph;
    copy->values = NULL;
    copy->next = NULL;
    copy->child = node->child ? simgpu_copy_graph(node->child) : NULL;
    if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        simgpu_keep_graph_memory(node->to);
    return node->type == CU_GRAPH_NODE_TYPE_KERNEL ? simgpu_keep_launch(copy, &node->launch) : CUDA_SUCCESS;
}

CUresult cuGraphClone(CUgraph *out, CUgraph graph) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && graph, CUDA_ERROR_INVALID_VALUE);
    *out = simgpu_copy_graph(graph);
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags) {
    SIMGPU_ENTER();
    (void)flags;
    SIMGPU_NEED(out && graph, CUDA_ERROR_INVALID_VALUE);
    CUgraphExec exec = calloc(1, sizeof *exec);
    SIMGPU_NEED(exec, CUDA_ERROR_OUT_OF_MEMORY);
    exec->graph = simgpu_copy_graph(graph);
    if (!exec->graph) {
        free(exec);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = exec;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate_v2(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size) {
    if (error)
        *error = NULL;
    if (log && size)
        *log = 0;
    return cuGraphInstantiateWithFlags(out, graph, 0);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
    SIMGPU_NEED(parameters, CUDA_ERROR_INVALID_VALUE);
    parameters->hErrNode_out = NULL;
    parameters->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
    return cuGraphInstantiateWithFlags(out, graph, parameters->flags);
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
    SIMGPU_ENTER();
    SIMGPU_NEED(exec, CUDA_ERROR_INVALID_VALUE);
    destroy_graph(exec->graph);
    free(exec);
    return CUDA_SUCCESS;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info) {
    SIMGPU_ENTER();
    SIMGPU_NEED(exec && graph && info, CUDA_ERROR_INVALID_VALUE);
    *info = (CUgraphExecUpdateResultInfo){.result = CU_GRAPH_EXEC_UPDATE_SUCCESS};
    CUgraphNode old = exec->graph->first, fresh = graph->first;
    for (; old && fresh && old->type == fresh->type; old = old->next)
        fresh = fresh->next;
    if (old || fresh) {
        info->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    }
    CUgraph copy = simgpu_copy_graph(graph);
    SIMGPU_NEED(copy, CUDA_ERROR_OUT_OF_MEMORY);
    destroy_graph(exec->graph);
    exec->graph = copy;
    return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
    SIMGPU_ENTER();
    (void)stream;
    return exec ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle) {
    SIMGPU_ENTER();
    CUstream stream = simgpu_stream(handle);
    SIMGPU_NEED(exec, CUDA_ERROR_INVALID_VALUE);
    SIMGPU_NEED(stream, CUDA_ERROR_INVALID_CONTEXT);
    if (stream->capture) {
        CUgraphNode node = simgpu_captured_node(stream, CU_GRAPH_NODE_TYPE_GRAPH);
        SIMGPU_NEED(node, CUDA_ERROR_OUT_OF_MEMORY);
        node->child = simgpu_copy_graph(exec->graph);
        return node->child ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
    return run_graph(exec->graph, stream);
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(graph && count, CUDA_ERROR_INVALID_VALUE);
    size_t at = 0;
    for (CUgraphNode node = graph->first; nodes && node && at < *count; node = node->next)
        nodes[at++] = node;
    *count = nodes ? at : graph->count;
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type) {
    SIMGPU_ENTER();
    SIMGPU_NEED(node && type, CUDA_ERROR_INVALID_VALUE);
    *type = node->type;
    return CUDA_SUCCESS;
}

CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edges, size_t *count) {
    SIMGPU_ENTER();
    SIMGPU_NEED(graph && count, CUDA_ERROR_INVALID_VALUE);
    size_t at = 0;
    for (; from && to && at < graph->edge_count && at < *count; at++) {
        from[at] = graph->edges[at].from, to[at] = graph->edges[at].to;
        if (edges)
            memset(&edges[at], 0, sizeof edges[at]);
    }
    *count = from && to ? at : graph->edge_count;
    return CUDA_SUCCESS;
}
