/* Graph memory has fixed addresses and gets its bytes from a reserve that the driver keeps per card: at a launch
 * or an upload, until it is trimmed. What a graph may want is read from its nodes when it is instantiated;
 * each launch reserves that much beyond what is in use, and afterwards pays what the driver really holds.
 *
 * What a launch wants is the address space that its allocation nodes cover: nodes that never live at the same
 * time share addresses, and so memory. */
#include "graphs.h"

#include <stdlib.h>
#include <string.h>

#include "holdings.h"
#include "reserves.h"

#define MOST_CARDS 16
#define MOST_DEPTH 16 /* of graphs within graphs */
#define AUTO_FREE 1u  /* CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH */

/* What one launch may take of each card. */
struct wish {
    uint64_t bytes[MOST_CARDS]; /* by ordinal */
    bool frees_first, launched;
};

struct span {
    CUdeviceptr start;
    uint64_t size;
    CUdevice ordinal;
};

struct spans {
    struct span *list;
    size_t count, room;
};

static struct card {
    struct vgpu_reserve reserve; /* alone: asked with its place */
} cards[MOST_CARDS]; /* by ordinal */
static struct vgpu_ledger wishes; /* executable graph -> struct wish */
uint32_t vgpu_graphs_with_memory;

/* ---- what a graph's nodes want ---- */

static bool keep(struct spans *spans, const CUDA_MEM_ALLOC_NODE_PARAMS *wanted) {
    const CUmemLocation *place = &wanted->poolProps.location;
    if (place->type != CU_MEM_LOCATION_TYPE_DEVICE || place->id < 0 || place->id >= MOST_CARDS) return true;
    if (spans->count == spans->room) {
        size_t room = spans->room ? spans->room * 2 : 16;
        struct span *grown = realloc(spans->list, room * sizeof *grown);
        if (!grown) return false;
        spans->list = grown;
        spans->room = room;
    }
    spans->list[spans->count++] = (struct span){wanted->dptr, wanted->bytesize, place->id};
    return true;
}

static bool collect(CUgraph graph, struct spans *spans, unsigned depth);

static bool collect_node(CUgraphNode node, struct spans *spans, unsigned depth) {
    CUDA_MEM_ALLOC_NODE_PARAMS wanted;
    CUgraphNodeType type;
    CUgraph child;
    if (REAL(cuGraphNodeGetType)(node, &type) != CUDA_SUCCESS) return true;
    if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        return REAL(cuGraphMemAllocNodeGetParams)(node, &wanted) != CUDA_SUCCESS || keep(spans, &wanted);
    if (type == CU_GRAPH_NODE_TYPE_GRAPH && REAL(cuGraphChildGraphNodeGetGraph)(node, &child) == CUDA_SUCCESS)
        return collect(child, spans, depth + 1);
    return true;
}

static bool collect(CUgraph graph, struct spans *spans, unsigned depth) {
    size_t count = 0;
    if (depth == MOST_DEPTH || REAL(cuGraphGetNodes)(graph, 0, &count) != CUDA_SUCCESS || !count) return true;
    CUgraphNode *nodes = calloc(count, sizeof *nodes);
    bool complete = nodes && REAL(cuGraphGetNodes)(graph, nodes, &count) == CUDA_SUCCESS;
    for (size_t i = 0; complete && i < count; i++) complete = collect_node(nodes[i], spans, depth);
    free(nodes);
    return complete;
}

static int by_start(const void *a, const void *b) {
    CUdeviceptr left = ((const struct span *)a)->start, right = ((const struct span *)b)->start;
    return (left > right) - (left < right);
}

/* The address space that the spans cover, per card. */
static void cover(struct spans *spans, struct wish *wish) {
    CUdeviceptr reached[MOST_CARDS] = {0};
    qsort(spans->list, spans->count, sizeof *spans->list, by_start);
    for (size_t i = 0; i < spans->count; i++) {
        const struct span *span = &spans->list[i];
        CUdeviceptr end = span->start + span->size, from = span->start;
        if (from < reached[span->ordinal]) from = reached[span->ordinal];
        if (end <= from) continue;
        wish->bytes[span->ordinal] += (end - from + 511) & ~511ull;
        reached[span->ordinal] = end;
    }
}

static struct wish *wish_of(CUgraph graph, unsigned long long flags) {
    struct spans spans = {0};
    struct wish *wish = 0;
    if (!collect(graph, &spans, 0)) vgpu_log(VGPU_LOG_ERROR, "no host memory: a graph's memory is charged late");
    if (spans.count && (wish = calloc(1, sizeof *wish))) {
        cover(&spans, wish);
        wish->frees_first = flags & AUTO_FREE;
    }
    free(spans.list);
    return wish;
}

/* ---- what the reserve of a card is charged ---- */

static uint64_t ask(const struct vgpu_reserve *reserve, CUgraphMem_attribute attribute) {
    cuuint64_t bytes = 0;
    CUdevice ordinal = (CUdevice)((const struct card *)reserve - cards);
    return REAL(cuDeviceGetGraphMemAttribute)(ordinal, attribute, &bytes) == CUDA_SUCCESS ? bytes : 0;
}

static uint64_t held_by_driver(const struct vgpu_reserve *reserve) {
    return ask(reserve, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT);
}

static uint64_t used_of_driver(const struct vgpu_reserve *reserve) {
    return ask(reserve, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT);
}

/* NULL where the container has no share of the card. */
static struct vgpu_reserve *reserve_of(CUdevice ordinal) {
    struct vgpu_reserve *reserve = &cards[ordinal].reserve;
    if (!ACQUIRE_LOAD(&reserve->held)) {
        reserve->charge.device = vgpu_card_of_ordinal(ordinal);
        reserve->charge.kind = VGPU_KIND_BUFFER;
        reserve->used = used_of_driver;
        RELEASE_STORE(&reserve->held, held_by_driver);
    }
    return reserve->charge.device ? reserve : 0;
}

static void follow(CUdevice ordinal, uint64_t less) {
    struct vgpu_reserve *reserve = reserve_of(ordinal);
    if (reserve && !vgpu_reserve_end(reserve, less)) vgpu_log(VGPU_LOG_WARNING, "graphs hold more than the share has left");
}

static void follow_all(void) {
    for (CUdevice ordinal = 0; ordinal < MOST_CARDS; ordinal++)
        if (ACQUIRE_LOAD(&cards[ordinal].reserve.held)) follow(ordinal, 0);
}

bool vgpu_graphs_reclaim(const struct vgpu_device *device) {
    uint64_t before = vgpu_graph_bytes(device);
    for (CUdevice ordinal = 0; before && ordinal < MOST_CARDS; ordinal++) {
        if (cards[ordinal].reserve.charge.device != device) continue;
        REAL(cuDeviceGraphMemTrim)(ordinal);
        follow(ordinal, 0);
    }
    return vgpu_graph_bytes(device) < before;
}

uint64_t vgpu_graph_bytes(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (CUdevice ordinal = 0; ordinal < MOST_CARDS; ordinal++)
        if (cards[ordinal].reserve.charge.device == device) sum += vgpu_charged_bytes(&cards[ordinal].reserve.charge);
    return sum;
}

/* ---- graphs that are ready to run ---- */

/* Before the driver's graph exists nothing is entered, and a graph without allocation nodes never is. */
static CUresult remember(CUresult result, CUgraphExec *exec, struct wish *wish) {
    struct vgpu_holding holding;
    if (!wish) return result;
    if (result != CUDA_SUCCESS) {
        free(wish);
        return result;
    }
    memset(&holding, 0, sizeof holding);
    holding.record = wish;
    vgpu_ledger_put(&wishes, (uint64_t)*exec, &holding);
    __atomic_fetch_add(&vgpu_graphs_with_memory, 1, __ATOMIC_RELEASE);
    return result;
}

static struct wish *wish_if_shared(CUgraph graph, unsigned long long flags) {
    return graph && vgpu_card_of_current_context() ? wish_of(graph, flags) : 0;
}

CUresult vgpu_graph_instantiate(enum vgpu_function id, CUgraphExec *exec, CUgraph graph, CUgraphNode *error, char *log,
                                size_t size) {
    struct wish *wish = exec ? wish_if_shared(graph, 0) : 0;
    return remember(REAL_AS(cuGraphInstantiate, id)(exec, graph, error, log, size), exec, wish);
}

CUresult vgpu_graph_instantiate_with_flags(enum vgpu_function id, CUgraphExec *exec, CUgraph graph,
                                           unsigned long long flags) {
    struct wish *wish = exec ? wish_if_shared(graph, flags) : 0;
    return remember(REAL_AS(cuGraphInstantiateWithFlags, id)(exec, graph, flags), exec, wish);
}

/* One of its flags uploads at once. */
CUresult vgpu_graph_instantiate_with_params(enum vgpu_function id, CUgraphExec *exec, CUgraph graph,
                                            CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
    struct wish *wish = exec && parameters ? wish_if_shared(graph, parameters->flags) : 0;
    CUresult result = REAL_AS(cuGraphInstantiateWithParams, id)(exec, graph, parameters);
    bool made = result == CUDA_SUCCESS && wish;
    remember(result, exec, wish);
    if (made) follow_all();
    return result;
}

/* ---- launches ---- */

static struct wish *wish_of_exec(CUgraphExec exec) {
    struct vgpu_holding holding;
    return vgpu_ledger_see(&wishes, (uint64_t)exec, &holding) ? holding.record : 0;
}

static bool begin_on(CUdevice ordinal, uint64_t bytes) {
    struct vgpu_reserve *reserve = reserve_of(ordinal);
    if (vgpu_reserve_begin(reserve, bytes)) return true;
    if (vgpu_reserves_reclaim(reserve->charge.device) && vgpu_reserve_begin(reserve, bytes)) return true;
    vgpu_charge_refused(reserve->charge.device, bytes);
    return false;
}

/* A graph that frees what its last launch left takes the same memory again. */
static bool takes_its_own(const struct wish *wish, CUdevice ordinal) {
    return wish->frees_first && wish->launched && used_of_driver(&cards[ordinal].reserve) >= wish->bytes[ordinal];
}

bool vgpu_graph_memory_begin(struct vgpu_graph_memory *memory, CUgraphExec graph) {
    struct wish *wish = wish_of_exec(graph);
    bool fits = true;
    memory->wish = wish;
    memory->reserved = 0;
    for (CUdevice ordinal = 0; wish && fits && ordinal < MOST_CARDS; ordinal++) {
        if (!wish->bytes[ordinal] || !reserve_of(ordinal) || takes_its_own(wish, ordinal)) continue;
        fits = begin_on(ordinal, wish->bytes[ordinal]);
        if (fits) memory->reserved |= 1u << ordinal;
    }
    if (!fits) vgpu_graph_memory_end(memory);
    else if (wish) wish->launched = true;
    return fits;
}

void vgpu_graph_memory_end(struct vgpu_graph_memory *memory) {
    const struct wish *wish = memory->wish;
    for (CUdevice ordinal = 0; wish && ordinal < MOST_CARDS; ordinal++)
        if (wish->bytes[ordinal]) follow(ordinal, memory->reserved & 1u << ordinal ? wish->bytes[ordinal] : 0);
}

CUresult vgpu_graph_upload(enum vgpu_function id, CUgraphExec graph, CUstream stream) {
    struct vgpu_graph_memory memory;
    if (!vgpu_graph_memory_begin(&memory, graph)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuGraphUpload, id)(graph, stream);
    vgpu_graph_memory_end(&memory);
    return result;
}

CUresult vgpu_graph_exec_destroy(enum vgpu_function id, CUgraphExec graph) {
    struct vgpu_holding holding;
    bool known = vgpu_ledger_take(&wishes, (uint64_t)graph, &holding);
    CUresult result = REAL_AS(cuGraphExecDestroy, id)(graph);
    if (!known) return result;
    if (result != CUDA_SUCCESS) {
        vgpu_ledger_put(&wishes, (uint64_t)graph, &holding);
        return result;
    }
    __atomic_fetch_sub(&vgpu_graphs_with_memory, 1, __ATOMIC_RELAXED);
    free(holding.record);
    follow_all();
    return result;
}

CUresult vgpu_device_graph_mem_trim(enum vgpu_function id, CUdevice ordinal) {
    CUresult result = REAL_AS(cuDeviceGraphMemTrim, id)(ordinal);
    if (result == CUDA_SUCCESS && ordinal >= 0 && ordinal < MOST_CARDS && reserve_of(ordinal)) follow(ordinal, 0);
    return result;
}

void vgpu_graphs_forget(void) {
    vgpu_graphs_with_memory = 0;
    memset(cards, 0, sizeof cards);
    vgpu_ledger_forget(&wishes);
}
