/* Open addressing in shards with a lock each, so that threads that allocate seldom meet. Removal closes the
 * gap (no tombstones), so look-ups stay short however long the process lives. */
#include "ledger.h"

#include <stdlib.h>
#include <string.h>

#include "swap.h"

#define FIRST_CAPACITY 64u

struct vgpu_ledger_entry {
    uint64_t key; /* 0: free */
    struct vgpu_holding holding;
};

static void copy(struct vgpu_holding *to, const struct vgpu_holding *from) {
    to->context = from->context;
    to->record = from->record;
    to->size = from->size;
    vgpu_charge_copy(&to->charge, &from->charge);
}

static uint64_t mix(uint64_t key) {
    key ^= key >> 32;
    key *= 0x9e3779b97f4a7c15ull;
    return key ^ key >> 29;
}

static struct vgpu_ledger_shard *shard_of(struct vgpu_ledger *ledger, uint64_t key) {
    return &ledger->shards[mix(key) >> 60];
}

/* Where the key is, or the free place where it belongs. */
static uint32_t place_of(const struct vgpu_ledger_shard *shard, uint64_t key) {
    uint32_t mask = shard->capacity - 1, at = (uint32_t)mix(key) & mask;
    while (shard->entries[at].key && shard->entries[at].key != key) at = (at + 1) & mask;
    return at;
}

/* Look-ups in what is empty need no lock. */
static void set_count(struct vgpu_ledger_shard *shard, uint32_t count) { __atomic_store_n(&shard->count, count, __ATOMIC_RELAXED); }

static VGPU_SELDOM bool grow(struct vgpu_ledger_shard *shard) {
    struct vgpu_ledger_shard larger = {.capacity = shard->capacity ? shard->capacity * 2 : FIRST_CAPACITY};
    larger.entries = calloc(larger.capacity, sizeof *larger.entries);
    if (!larger.entries) return false;
    for (uint32_t i = 0; i < shard->capacity; i++)
        if (shard->entries[i].key) larger.entries[place_of(&larger, shard->entries[i].key)] = shard->entries[i];
    free(shard->entries);
    shard->entries = larger.entries;
    shard->capacity = larger.capacity;
    return true;
}

void vgpu_ledger_put(struct vgpu_ledger *ledger, uint64_t key, const struct vgpu_holding *holding) {
    struct vgpu_ledger_shard *shard = shard_of(ledger, key);
    vgpu_lock(&shard->lock);
    bool fits = VGPU_LIKELY((shard->count + 1) * 4 <= shard->capacity * 3) || grow(shard) || shard->count + 1 < shard->capacity;
    if (fits) {
        struct vgpu_ledger_entry *entry = &shard->entries[place_of(shard, key)];
        if (!entry->key) set_count(shard, shard->count + 1);
        entry->key = key;
        copy(&entry->holding, holding);
    }
    vgpu_unlock(&shard->lock);
    if (!fits) vgpu_log(VGPU_LOG_ERROR, "no host memory: a charge stays until the process ends");
}

/* Moves what follows into the gap at `at`, as far as it hashes to there or before. */
static void close_gap(struct vgpu_ledger_shard *shard, uint32_t at) {
    uint32_t mask = shard->capacity - 1, gap = at;
    for (uint32_t next = (gap + 1) & mask; shard->entries[next].key; next = (next + 1) & mask) {
        uint32_t home = (uint32_t)mix(shard->entries[next].key) & mask;
        if (((next - home) & mask) < ((next - gap) & mask)) continue;
        shard->entries[gap].key = shard->entries[next].key;
        copy(&shard->entries[gap].holding, &shard->entries[next].holding);
        gap = next;
    }
    shard->entries[gap].key = 0;
    set_count(shard, shard->count - 1);
}

static bool find(struct vgpu_ledger *ledger, uint64_t key, struct vgpu_holding *holding, bool remove) {
    struct vgpu_ledger_shard *shard = shard_of(ledger, key);
    bool found = false;
    if (!key || !RELAXED_LOAD(&shard->count)) return false;
    vgpu_lock(&shard->lock);
    if (shard->count) {
        uint32_t at = place_of(shard, key);
        found = shard->entries[at].key == key;
        if (found) copy(holding, &shard->entries[at].holding);
        if (found && remove) close_gap(shard, at);
    }
    vgpu_unlock(&shard->lock);
    return found;
}

bool vgpu_ledger_take(struct vgpu_ledger *ledger, uint64_t key, struct vgpu_holding *holding) {
    return find(ledger, key, holding, true);
}

bool vgpu_ledger_see(struct vgpu_ledger *ledger, uint64_t key, struct vgpu_holding *holding) {
    return find(ledger, key, holding, false);
}

static void end_context_in(struct vgpu_ledger_shard *shard, CUcontext context) {
    for (uint32_t at = 0; at < shard->capacity;) {
        struct vgpu_ledger_entry *entry = &shard->entries[at];
        if (!entry->key || entry->holding.context != context) {
            at++;
            continue;
        }
        if (entry->holding.charge.kind == VGPU_KIND_SWAP) vgpu_swap_forget_range(entry->key);
        vgpu_charge_end(&entry->holding.charge);
        close_gap(shard, at); /* what moved here is looked at next */
    }
}

void vgpu_ledger_end_context(struct vgpu_ledger *ledger, CUcontext context) {
    for (unsigned i = 0; i < VGPU_LEDGER_SHARDS; i++) {
        vgpu_lock(&ledger->shards[i].lock);
        end_context_in(&ledger->shards[i], context);
        vgpu_unlock(&ledger->shards[i].lock);
    }
}

uint64_t vgpu_ledger_bytes_on(struct vgpu_ledger *ledger, const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < VGPU_LEDGER_SHARDS; i++) {
        struct vgpu_ledger_shard *shard = &ledger->shards[i];
        vgpu_lock(&shard->lock);
        for (uint32_t at = 0; at < shard->capacity; at++)
            if (shard->entries[at].key && shard->entries[at].holding.charge.device == device &&
                shard->entries[at].holding.charge.kind != VGPU_KIND_SWAP)
                sum += vgpu_charged_bytes(&shard->entries[at].holding.charge);
        vgpu_unlock(&shard->lock);
    }
    return sum;
}

void vgpu_ledger_forget(struct vgpu_ledger *ledger) { memset(ledger, 0, sizeof *ledger); }
