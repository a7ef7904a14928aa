/* Memory of graphs: charged when a launch puts it on the card. */
#ifndef VGPU_GRAPHS_H
#define VGPU_GRAPHS_H

#include "shares.h"

/* How many graphs with allocation nodes are ready to run: 0 keeps a launch on its short way. */
extern uint32_t vgpu_graphs_with_memory;

/* What one launch has reserved. */
struct vgpu_graph_memory {
    const void *wish; /* NULL: the graph has no allocation nodes */
    uint32_t reserved; /* on which ordinals, a bit each */
};

/* Pays for the memory that a launch or an upload of `graph` may take; false: over the limit. */
bool vgpu_graph_memory_begin(struct vgpu_graph_memory *memory, CUgraphExec graph);

/* After the driver's answer. */
void vgpu_graph_memory_end(struct vgpu_graph_memory *memory);

uint64_t vgpu_graph_bytes(const struct vgpu_device *device);

/* In a forked child. */
void vgpu_graphs_forget(void);

#endif
