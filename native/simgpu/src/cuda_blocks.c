/*
 * The process's own map of its allocations: a treap by address, so that interior pointers are found.
 *
 * Device memory is ordinary address space, reserved without swap and empty until touched: an address
 * is real enough to copy to and from, and fifteen gibibytes cost nothing.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

static pthread_mutex_t map_lock = PTHREAD_MUTEX_INITIALIZER;
static struct simgpu_block *root;
static _Atomic uint64_t ids;

uint64_t simgpu_next_id(void) {
    return atomic_fetch_add_explicit(&ids, 1, memory_order_relaxed) + 1;
}

uint64_t simgpu_page_round(uint64_t bytes) {
    return (bytes + 0xfff) & ~0xfffull;
}

struct simgpu_block *simgpu_new_block(void) {
    return calloc(1, sizeof(struct simgpu_block));
}

/* After a fork: the child's copies of the parent's allocations are on nobody's account. */
void simgpu_forget_blocks(void) {
    pthread_mutex_init(&map_lock, NULL);
    root = NULL;
}

static void split(struct simgpu_block *tree, uint64_t base, struct simgpu_block **low, struct simgpu_block **high) {
    if (!tree) {
        *low = *high = NULL;
    } else if (tree->base < base) {
        *low = tree;
        split(tree->right, base, &tree->right, high);
    } else {
        *high = tree;
        split(tree->left, base, low, &tree->left);
    }
}

static struct simgpu_block *join(struct simgpu_block *low, struct simgpu_block *high) {
    if (!low || !high)
        return low ? low : high;
    if (low->priority > high->priority) {
        low->right = join(low->right, high);
        return low;
    }
    high->left = join(low, high->left);
    return high;
}

void simgpu_adopt_block(struct simgpu_block *block) {
    struct simgpu_block *low, *high;
    block->id = simgpu_next_id();
    block->priority = (uint32_t)((block->base >> 9) * 2654435761u ^ block->id * 40503u);
    block->left = block->right = NULL;
    pthread_mutex_lock(&map_lock);
    split(root, block->base, &low, &high);
    root = join(join(low, block), high);
    pthread_mutex_unlock(&map_lock);
}

/* The block with the highest base at or below the address; nested mappings win over reservations. */
static struct simgpu_block *at_or_below(uint64_t address) {
    struct simgpu_block *best = NULL;
    for (struct simgpu_block *at = root; at;) {
        if (at->base <= address) {
            best = at;
            at = at->right;
        } else {
            at = at->left;
        }
    }
    return best;
}

struct simgpu_block *simgpu_find_block(uint64_t address) {
    pthread_mutex_lock(&map_lock);
    struct simgpu_block *block = at_or_below(address);
    pthread_mutex_unlock(&map_lock);
    return block && address - block->base < block->size ? block : NULL;
}

struct simgpu_block *simgpu_take_block(uint64_t address) {
    struct simgpu_block *low, *middle, *high;
    pthread_mutex_lock(&map_lock);
    split(root, address, &low, &middle);
    split(middle, address + 1, &middle, &high);
    struct simgpu_block *taken = middle;
    if (taken)
        high = join(join(taken->left, taken->right), high);
    root = join(low, high);
    pthread_mutex_unlock(&map_lock);
    return taken;
}

CUresult simgpu_release_block(struct simgpu_block *block) {
    if (block->charged)
        simgpu_discharge(block->card, block->charged);
    if (block->kind == SIMGPU_GRAPH)
        simgpu_end_graph_block(block);
    if (block->kind == SIMGPU_MANAGED)
        simgpu_end_managed_block(block);
    if (block->kind == SIMGPU_POOLED && block->base)
        simgpu_pool_return(block);
    if (block->shared_offset && block->kind != SIMGPU_IPC)
        simgpu_unshare(block->shared_offset, block->span);
    if (block->span)
        munmap((void *)block->base, block->span);
    free(block);
    return CUDA_SUCCESS;
}

static void walk(struct simgpu_block *tree, void (*visit)(struct simgpu_block *)) {
    if (!tree)
        return;
    walk(tree->left, visit);
    visit(tree);
    walk(tree->right, visit);
}

/* `visit` must neither add nor take blocks. */
void simgpu_walk_blocks(void (*visit)(struct simgpu_block *)) {
    pthread_mutex_lock(&map_lock);
    walk(root, visit);
    pthread_mutex_unlock(&map_lock);
}

static struct simgpu_block *first_of(struct simgpu_block *tree, CUcontext context) {
    if (!tree || tree->context == context)
        return tree;
    struct simgpu_block *found = first_of(tree->left, context);
    return found ? found : first_of(tree->right, context);
}

void simgpu_release_context_blocks(CUcontext context) {
    for (;;) {
        pthread_mutex_lock(&map_lock);
        struct simgpu_block *block = first_of(root, context);
        pthread_mutex_unlock(&map_lock);
        if (!block)
            return;
        simgpu_release_block(simgpu_take_block(block->base));
    }
}

/* Charges, reserves and registers what `wanted` describes (kind, size, card, context, flags, owner). */
CUresult simgpu_allocate(struct simgpu_block *wanted, CUdeviceptr *address) {
    struct simgpu_block *block = malloc(sizeof *block);
    SIMGPU_NEED(block, CUDA_ERROR_OUT_OF_MEMORY);
    *block = *wanted;
    if (block->charged && !simgpu_charge(block->card, block->charged)) {
        free(block);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    block->span = simgpu_page_round(block->size);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, block->span, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
        block->span = 0;
        simgpu_release_block(block);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    block->base = (uint64_t)memory;
    simgpu_adopt_block(block);
    *address = block->base;
    return CUDA_SUCCESS;
}
