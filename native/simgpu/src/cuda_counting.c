/*
 * Allocations when calls only count (SIMGPU_TIMELINE=off): a few nanoseconds, no address space.
 *
 * An address carries the number of its entry, so that freeing is O(1) at any number of live
 * allocations, and a benchmark measures what stands in front of the driver, not the driver.
 */
#include "cuda_api.h"

#include <sched.h>
#include <stdlib.h>

#define ENTRIES (1u << 20)
#define SHIFT 40
#define TAG (1ull << 61)

static uint64_t *sizes; /* of live entries; else the next free entry */
static uint8_t *cards;
static uint32_t first_free, never_used = 1;
static atomic_flag busy = ATOMIC_FLAG_INIT;

static void enter(void) {
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        sched_yield();
    if (!sizes) {
        sizes = calloc(ENTRIES, sizeof *sizes);
        cards = calloc(ENTRIES, sizeof *cards);
    }
}

static void leave(void) {
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

static void add(int card, uint64_t bytes) {
    atomic_fetch_add_explicit(&simgpu->slots[simgpu_slot].accounts[card].bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&simgpu->cards[card].used, bytes, memory_order_relaxed);
}

CUresult simgpu_count_allocation(CUdeviceptr *address, size_t bytes) {
    CUcontext context = simgpu_current();
    SIMGPU_NEED(context, CUDA_ERROR_INVALID_CONTEXT);
    SIMGPU_NEED(address && bytes, CUDA_ERROR_INVALID_VALUE);
    const struct simgpu_card *card = &simgpu->cards[context->card];
    SIMGPU_NEED(bytes <= card->facts.memory - card->used, CUDA_ERROR_OUT_OF_MEMORY);
    enter();
    uint32_t entry = first_free ? first_free : never_used;
    if (entry >= ENTRIES) {
        leave();
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (first_free)
        first_free = (uint32_t)sizes[entry];
    else
        never_used++;
    sizes[entry] = bytes;
    cards[entry] = (uint8_t)context->card;
    leave();
    add(context->card, bytes);
    *address = TAG | (uint64_t)entry << SHIFT;
    return CUDA_SUCCESS;
}

bool simgpu_count_free(CUdeviceptr address) {
    if (!(address & TAG))
        return false;
    uint32_t entry = (uint32_t)((address & ~TAG) >> SHIFT);
    enter();
    uint64_t bytes = sizes[entry];
    int card = cards[entry];
    sizes[entry] = first_free;
    first_free = entry;
    leave();
    add(card, 0 - bytes);
    return true;
}
