/* The size of a context or a module, measured: what the vendor's library reports for this process before and
 * after. Where it reports no processes (it sees the host's process ids, a container its own), the card's
 * use as a whole stands in, which other tenants disturb; then only a plausible size is believed. */
#include "growth.h"

#include <string.h>

#define PLAUSIBLE_CONTEXT (2ull << 30)

struct vgpu_ledger vgpu_contexts, vgpu_modules;

struct reading {
    bool process_known, card_known;
    uint64_t process, card, held;
};

static void read_now(const struct vgpu_device *device, struct reading *reading) {
    memset(reading, 0, sizeof *reading);
    reading->process_known = vgpu_card_process_memory(device, &reading->process);
    reading->card_known = vgpu_card_used(device, &reading->card);
    reading->held = vgpu_held_bytes(device);
}

/* Growth that is not an allocation which another thread made meanwhile. */
static uint64_t without_held(uint64_t before, uint64_t after, uint64_t held_before, uint64_t held_after) {
    uint64_t grown = after > before ? after - before : 0;
    uint64_t held = held_after > held_before ? held_after - held_before : 0;
    return grown > held ? grown - held : 0;
}

static uint64_t grown(const struct reading *before, const struct reading *after, enum vgpu_kind kind) {
    if (after->process_known) return without_held(before->process, after->process, before->held, after->held);
    if (kind != VGPU_KIND_CONTEXT || !before->card_known || !after->card_known) return 0;
    uint64_t size = without_held(before->card, after->card, before->held, after->held);
    return size <= PLAUSIBLE_CONTEXT ? size : 0;
}

/* What a context of another process of the share takes: the best guess before the first of our own. */
static uint64_t expected_context(const struct vgpu_device *device) {
    uint64_t least = 0;
    for (unsigned i = 0; i < device->share_count; i++)
        for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++) {
            const struct vgpu_usage_slot *slot = &device->shares[i].usage->slots[n];
            uint64_t bytes = ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE ? 0 : RELAXED_LOAD(&slot->context_bytes);
            if (bytes && (!least || bytes < least)) least = bytes;
        }
    return least <= PLAUSIBLE_CONTEXT ? least : 0;
}

static bool correct(struct vgpu_charge *charge, uint64_t paid, uint64_t due) {
    if (due >= paid) return vgpu_charge_grow(charge, due - paid);
    vgpu_charge_shrink(charge, paid - due);
    return true;
}

CUresult vgpu_grow(const struct vgpu_growth *growth) {
    struct vgpu_holding holding;
    struct reading before, after;
    if (!growth->device || !growth->device->share_count) return growth->create(growth->argument);
    memset(&holding, 0, sizeof holding);
    holding.size = growth->kind == VGPU_KIND_CONTEXT ? expected_context(growth->device) : 0;
    if (!vgpu_charge(&holding.charge, growth->device, holding.size, growth->kind)) return CUDA_ERROR_OUT_OF_MEMORY;
    read_now(growth->device, &before);
    CUresult result = growth->create(growth->argument);
    if (result == CUDA_SUCCESS) {
        read_now(growth->device, &after);
        uint64_t size = grown(&before, &after, growth->kind);
        if (!correct(&holding.charge, holding.size, size)) {
            growth->undo(growth->argument);
            result = CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (growth->kind == VGPU_KIND_MODULE) REAL(cuCtxGetCurrent)(&holding.context);
    }
    return vgpu_settle(growth->ledger, result, result == CUDA_SUCCESS ? growth->key(growth->argument) : 0, &holding);
}
