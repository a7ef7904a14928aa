/*
 * Behind CUgraph: nodes in the order in which they run, and the edges that programs drew.
 */
#ifndef SIMGPU_CUDA_GRAPH_H
#define SIMGPU_CUDA_GRAPH_H

#include "cuda_module.h"

struct simgpu_edge {
    CUgraphNode from, to;
};

struct CUgraphNode_st {
    CUgraph graph;
    CUgraphNodeType type;
    struct simgpu_launch launch;
    void *values; /* the kernel's parameters, copied */
    CUdeviceptr to, from;
    size_t bytes; /* or elements of a fill */
    unsigned value, width;
    size_t pitch, rows;
    CUhostFn host;
    void *argument;
    CUgraph child;
    CUevent event;
    CUgraphNode next;
};

struct CUgraph_st {
    CUgraphNode first, *last;
    size_t count;
    struct simgpu_edge *edges;
    size_t edge_count;
    bool owned; /* a child belongs to its node */
};

CUgraph simgpu_new_graph(void);
CUgraph simgpu_copy_graph(CUgraph graph);
/* Appends a node after `count` others; NULL when there is no graph or no memory. */
CUgraphNode simgpu_new_node(CUgraph graph, CUgraphNodeType type, const CUgraphNode *after, size_t count);
/* Copies a launch with its parameters: the caller's array may be gone when the graph runs. */
CUresult simgpu_keep_launch(CUgraphNode node, const struct simgpu_launch *launch);
CUgraphNode simgpu_captured_node(CUstream stream, CUgraphNodeType type);

#endif
