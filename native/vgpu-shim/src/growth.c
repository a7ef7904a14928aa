/* The size of a context or a module, measured: what the vendor's library reports for this process before and
 * after. Where it cannot be learnt which process of the vendor's library this is, the card's use as a whole
 * stands in, which other tenants disturb; then only a plausible size is believed. */
#include "growth.h"

#include <string.h>
#include <time.h>

#include "identity.h"
#include "lingering.h"

#define PLAUSIBLE_CONTEXT (2ull << 30)
#define PLAUSIBLE_MODULE (256ull << 20)
#define GUESSED_CONTEXT (1ull << 30)
#define GUESSED_MODULE (16ull << 20)
#define PATIENCE_NS 2000000000u
#define NAP_NS 5000000

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
    if (!before->card_known || !after->card_known) return 0;
    uint64_t size = without_held(before->card, after->card, before->held, after->held);
    return size <= (kind == VGPU_KIND_CONTEXT ? PLAUSIBLE_CONTEXT : PLAUSIBLE_MODULE) ? size : 0;
}

/* What a context of the share took before, in whatever process; 0: none was made yet. */
static uint64_t known_context(const struct vgpu_device *device) {
    uint64_t largest = 0;
    for (unsigned i = 0; i < device->share_count; i++) {
        uint64_t seen = RELAXED_LOAD(&device->shares[i].usage->largest_context_bytes);
        if (seen > largest && seen <= PLAUSIBLE_CONTEXT) largest = seen;
    }
    return largest;
}

static void note_context(const struct vgpu_device *device, uint64_t bytes) {
    for (unsigned i = 0; i < device->share_count; i++) {
        uint64_t *largest = &device->shares[i].usage->largest_context_bytes, seen = RELAXED_LOAD(largest);
        while (seen < bytes && !__atomic_compare_exchange_n(largest, &seen, bytes, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    }
}

/* A reading far below what contexts of the share take is a disturbed one: then the known size stands. */
static uint64_t plausible_context(const struct vgpu_device *device, uint64_t measured) {
    uint64_t known = known_context(device);
    if (measured < known / 2) return known;
    note_context(device, measured);
    return measured;
}

/* Reserves what the growth may take, before its size is known; returns false when there is surely no room. The
 * first context of a share takes a generous guess, or what is left; where others are at theirs just now, their
 * size is waited for. Code takes a small guess, or what is left. */
static bool reserve_guess(struct vgpu_holding *holding, const struct vgpu_growth *growth) {
    struct timespec nap = {0, NAP_NS};
    uint64_t until = vgpu_now_ns() + PATIENCE_NS;
    uint64_t guess = growth->kind == VGPU_KIND_CONTEXT ? GUESSED_CONTEXT : GUESSED_MODULE;
    for (;;) {
        uint64_t known = growth->kind == VGPU_KIND_CONTEXT ? known_context(growth->device) : 0;
        uint64_t limit = vgpu_device_limit(growth->device), used = vgpu_device_used(growth->device);
        uint64_t room = limit > used ? limit - used : 0;
        bool waits = !known && room < guess && used && growth->kind == VGPU_KIND_CONTEXT && vgpu_now_ns() < until;
        holding->size = known ? known : guess < room ? guess : room;
        if (!waits && vgpu_charge(&holding->charge, growth->device, holding->size, growth->kind)) return true;
        if (known || growth->device->refuses || vgpu_now_ns() >= until) return false;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
    }
}

static bool correct(struct vgpu_charge *charge, uint64_t paid, uint64_t due) {
    if (due >= paid) return vgpu_charge_grow(charge, due - paid);
    vgpu_charge_shrink(charge, paid - due);
    return true;
}

CUresult vgpu_grow(const struct vgpu_growth *growth) {
    struct vgpu_holding holding;
    struct reading before, after;
    struct vgpu_roster roster;
    bool makes_context = growth->kind == VGPU_KIND_CONTEXT;
    if (!growth->device || !growth->device->share_count) return growth->create(growth->argument);
    memset(&holding, 0, sizeof holding);
    if (makes_context) vgpu_lingering_repair(growth->device);
    if (!reserve_guess(&holding, growth)) return CUDA_ERROR_OUT_OF_MEMORY;
    if (makes_context) vgpu_identity_before(growth->device, &roster);
    read_now(growth->device, &before);
    CUresult result = growth->create(growth->argument);
    if (result == CUDA_SUCCESS) {
        if (makes_context) vgpu_identity_after(growth->device, &roster, (CUcontext)growth->key(growth->argument));
        read_now(growth->device, &after);
        uint64_t size = grown(&before, &after, growth->kind);
        if (makes_context) size = plausible_context(growth->device, size);
        if (!correct(&holding.charge, holding.size, size)) {
            growth->undo(growth->argument);
            result = CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (!makes_context) REAL(cuCtxGetCurrent)(&holding.context);
    }
    return vgpu_settle(growth->ledger, result, result == CUDA_SUCCESS ? growth->key(growth->argument) : 0, &holding);
}
