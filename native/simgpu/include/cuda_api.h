/*
 * What the parts of the simulated libcuda share: objects behind the handles, and the check at the door.
 */
#ifndef SIMGPU_CUDA_API_H
#define SIMGPU_CUDA_API_H

#define __CUDA_API_VERSION_INTERNAL
#define CUDA_ENABLE_DEPRECATED
#include <cuda.h>

#include "simgpu_core.h"

#define SIMGPU_ROUND 512ull
#define SIMGPU_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SIMGPU_FAST_TLS __thread __attribute__((tls_model("initial-exec")))
#define SIMGPU_MAX_PARAMETERS 64

/* First line of every simulated call: initialised, no planned failure, card still on the bus. */
#define SIMGPU_ENTER()                                                                                       \
    do {                                                                                                     \
        if (SIMGPU_UNLIKELY(!simgpu_ready))                                                                  \
            return CUDA_ERROR_NOT_INITIALIZED;                                                               \
        if (SIMGPU_UNLIKELY(simgpu->armed)) {                                                                \
            CUresult planned = simgpu_entry_error(__func__);                                                 \
            if (planned != CUDA_SUCCESS)                                                                     \
                return planned;                                                                              \
        }                                                                                                    \
    } while (0)
#define SIMGPU_NEED(condition, error)                                                                        \
    do {                                                                                                     \
        if (SIMGPU_UNLIKELY(!(condition)))                                                                   \
            return (error);                                                                                  \
    } while (0)

struct CUctx_st {
    uint64_t id;
    int device;
    int card;
    unsigned flags;
    unsigned references; /* a primary context counts who retained it */
    bool primary;
    bool alive;
    size_t limits[CU_LIMIT_MAX];
    struct CUstream_st *streams;
    struct CUstream_st *legacy;
};

struct CUstream_st {
    uint64_t id;
    CUcontext context;
    unsigned flags;
    int priority;
    uint64_t last_end; /* when the work put in so far is done; CLOCK_MONOTONIC ns */
    _Atomic unsigned host_calls;
    CUgraph capture;
    CUgraphNode capture_tail;
    uint64_t capture_id;
    struct CUstream_st *next;
};

struct CUevent_st {
    CUcontext context;
    unsigned flags;
    bool recorded;
    uint64_t moment;
};

enum simgpu_kernel_kind { SIMGPU_KERNEL_OTHER, SIMGPU_KERNEL_SPIN, SIMGPU_KERNEL_FILL, SIMGPU_KERNEL_ADD };

/* What calls from before CUDA 4 set on a function ahead of its launch. */
struct simgpu_legacy {
    unsigned block[3];
    size_t size;
    char parameters[4096];
};

/* A function of a module; also what a CUkernel points at. */
struct CUfunc_st {
    CUmodule module;
    enum simgpu_kernel_kind kind;
    unsigned parameter_count;
    size_t parameter_offset[SIMGPU_MAX_PARAMETERS];
    size_t parameter_size[SIMGPU_MAX_PARAMETERS];
    struct simgpu_legacy *legacy; /* NULL until one of those calls comes */
    struct CUfunc_st *next;
    char name[];
};

struct simgpu_launch {
    CUfunction function;
    unsigned grid[3];
    unsigned block[3];
    void **parameters;
    void **extra;
};

enum simgpu_memory_kind {
    SIMGPU_DEVICE = 1,
    SIMGPU_MANAGED,
    SIMGPU_HOST,
    SIMGPU_REGISTERED,
    SIMGPU_POOLED,
    SIMGPU_IPC,
    SIMGPU_MAPPED,
    SIMGPU_GRAPH,
};

/* A stretch of address space that the driver knows. `charged` bytes are on the card's account. */
struct simgpu_block {
    uint64_t base;
    uint64_t size;
    uint64_t span; /* bytes of address space to give back, 0: not ours */
    uint64_t charged;
    enum simgpu_memory_kind kind;
    int card;
    CUcontext context;
    uint64_t id;
    unsigned flags;
    void *owner; /* the pool or the physical allocation, by kind */
    uint64_t shared_offset;
    bool backed; /* graph memory: bytes stand behind the address now; managed: it is on the card now */
    bool on_host; /* managed: the program wants it there */
    uint32_t priority;
    struct simgpu_block *left, *right;
};

struct simgpu_proc {
    const char *symbol;
    int version;
    void *plain;
    void *per_thread;
};

extern bool simgpu_ready;
extern int simgpu_device_count;
extern int simgpu_device_cards[SIMGPU_MAX_CARDS];
extern const struct simgpu_proc simgpu_procs[];
extern const unsigned simgpu_proc_count;

CUresult simgpu_entry_error(const char *function);
CUresult simgpu_lost(int card);
CUcontext simgpu_current(void);
void simgpu_choose_devices(void);
void simgpu_forget_contexts(void);
void simgpu_forget_blocks(void);
void simgpu_forget_pools(void);

CUstream simgpu_thread_stream(CUstream stream);
CUstream simgpu_stream(CUstream handle);
void simgpu_destroy_streams(CUcontext context);
void simgpu_stream_ready(CUstream stream);
void simgpu_call_later(CUstream stream, CUhostFn function, void *argument);

CUresult simgpu_count_allocation(CUdeviceptr *address, size_t bytes);
bool simgpu_count_free(CUdeviceptr address);
int simgpu_ordinal(int card);
struct simgpu_block *simgpu_new_block(void);
CUresult simgpu_allocate(struct simgpu_block *wanted, CUdeviceptr *address);
void simgpu_adopt_block(struct simgpu_block *block);
struct simgpu_block *simgpu_find_block(uint64_t address);
struct simgpu_block *simgpu_take_block(uint64_t address);
CUresult simgpu_release_block(struct simgpu_block *block);
void simgpu_release_context_blocks(CUcontext context);
uint64_t simgpu_next_id(void);
uint64_t simgpu_page_round(uint64_t bytes);

CUresult simgpu_launch(const struct simgpu_launch *launch, CUstream stream);
CUresult simgpu_run_launch(const struct simgpu_launch *launch, CUstream stream);
CUresult simgpu_capture_launch(const struct simgpu_launch *launch, CUstream stream);
CUresult simgpu_capture_copy(CUstream stream, CUdeviceptr to, CUdeviceptr from, size_t bytes);
CUresult simgpu_capture_set(CUstream stream, CUdeviceptr to, unsigned value, unsigned width, size_t count);
CUresult simgpu_capture_host(CUstream stream, CUhostFn function, void *argument);
CUresult simgpu_capture_allocation(CUstream stream, size_t bytes, CUdeviceptr *address);
CUresult simgpu_capture_free(CUstream stream, CUdeviceptr address);
void simgpu_pool_return(struct simgpu_block *block);
CUresult simgpu_reserve_graph_memory(size_t bytes, CUdeviceptr *address);
CUresult simgpu_back_graph_memory(CUdeviceptr address);
CUresult simgpu_unback_graph_memory(CUdeviceptr address);
void simgpu_keep_graph_memory(CUdeviceptr address);
void simgpu_drop_graph_memory(CUdeviceptr address);
void simgpu_end_graph_block(struct simgpu_block *block);
void simgpu_trim_graph_memory(int card);
void simgpu_forget_graph_memory(void);
CUresult simgpu_new_managed(CUdeviceptr *address, size_t bytes, unsigned flags);
void simgpu_settle_managed(void);
void simgpu_end_managed_block(struct simgpu_block *block);
void simgpu_forget_managed(void);
void simgpu_walk_blocks(void (*visit)(struct simgpu_block *));
struct physical;
void simgpu_hold_physical(struct physical *memory);
void simgpu_put_physical(struct physical *memory);
bool simgpu_release_multicast(CUmemGenericAllocationHandle handle);
bool simgpu_load_lazily(CUfunction function, int card);
void simgpu_copy_cost(CUstream stream, uint64_t bytes);
CUresult simgpu_run_copy(CUstream stream, CUdeviceptr to, CUdeviceptr from, size_t bytes);
CUresult simgpu_run_set(CUstream stream, CUdeviceptr to, unsigned value, unsigned width, size_t count);

#endif
