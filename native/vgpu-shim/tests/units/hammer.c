/* hammer <folder> <kills> <seed>: processes of threads take and give at the limit while they are killed at random
 * points, repairers among them; between them, none may exceed the limit, and after each kill no charge may stay.
 * Prints what happened as JSON. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "unit.h"

#define VICTIMS 4
#define THREADS 2
#define PLACES 4
#define LIMIT (64 * MIB)

extern struct vgpu_region unit_region;
static struct vgpu_region *const region = &unit_region;

static struct {
    uint64_t taken, refused, overruns, longest_ns;
} *board;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void note_longest(uint64_t ns) {
    uint64_t seen = RELAXED_LOAD(&board->longest_ns);
    while (ns > seen &&
           !__atomic_compare_exchange_n(&board->longest_ns, &seen, ns, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

static void *take_and_give(void *argument) {
    uint64_t state = (uint64_t)(uintptr_t)argument, held[PLACES] = {0};
    for (;;) {
        uint64_t bytes = next_random(&state) % (LIMIT / 8) + 1, place = next_random(&state) % PLACES, since = vgpu_now_ns();
        vgpu_region_give(region, held[place], VGPU_KIND_BUFFER);
        bool granted = vgpu_region_take(region, bytes, false, VGPU_KIND_BUFFER) == bytes;
        if (RELAXED_LOAD(&region->usage->charged_bytes) > LIMIT) __atomic_fetch_add(&board->overruns, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(granted ? &board->taken : &board->refused, 1, __ATOMIC_RELAXED);
        held[place] = granted ? bytes : 0;
        if (!granted) vgpu_region_repair(region);
        note_longest(vgpu_now_ns() - since);
    }
    return 0;
}

static pid_t start_victim(uint64_t seed) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child) return child;
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0); /* nobody is left to run on when a test gives up */
    vgpu_region_forget_slot(region);
    vgpu_process_begin();
    pthread_t thread;
    for (unsigned i = 1; i < THREADS; i++) CHECK(pthread_create(&thread, 0, take_and_give, (void *)(uintptr_t)(seed + i)) == 0);
    take_and_give((void *)(uintptr_t)(seed + THREADS));
    _exit(1);
}

/* With everybody dead, one repair leaves the survivor's own charge and nothing else. */
static void check_nothing_is_left(pid_t victims[VICTIMS]) {
    for (unsigned i = 0; i < VICTIMS; i++) {
        unit_kill(victims[i]);
        victims[i] = 0;
    }
    vgpu_region_repair(region);
    CHECK(region->usage->charged_bytes == MIB);
    CHECK(!region->usage->recount_owner && !region->usage->recount_stale);
    for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++)
        CHECK(region->usage->slots[n].state == VGPU_SLOT_FREE || &region->usage->slots[n] == region->slot);
}

int main(int count, char **words) {
    CHECK(count == 4);
    unsigned kills = (unsigned)strtoul(words[2], 0, 10);
    uint64_t seed = strtoull(words[3], 0, 10) * 2654435761u + 1;
    pid_t victims[VICTIMS] = {0};
    board = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED);
    unit_make_share(words[1], LIMIT);
    CHECK(vgpu_region_map(region, words[1]) == 0);
    vgpu_process_begin();
    CHECK(vgpu_region_take(region, MIB, false, VGPU_KIND_BUFFER) == MIB);
    for (unsigned kill = 0; kill < kills; kill++) {
        unsigned i = kill % VICTIMS;
        if (victims[i]) unit_kill(victims[i]);
        victims[i] = start_victim(next_random(&seed) % 1000000 + 1);
        usleep((useconds_t)(next_random(&seed) % 3000));
        if (i == VICTIMS - 1 && kill % (8 * VICTIMS) == 8 * VICTIMS - 1) check_nothing_is_left(victims);
    }
    for (unsigned i = 0; i < VICTIMS; i++)
        if (!victims[i]) victims[i] = start_victim(i + 1);
    check_nothing_is_left(victims);
    CHECK(region->usage->peak_bytes <= LIMIT);
    printf("{\"kills\": %u, \"taken\": %llu, \"refused\": %llu, \"overruns\": %llu, \"longest_ms\": %llu}\n", kills,
           (unsigned long long)board->taken, (unsigned long long)board->refused, (unsigned long long)board->overruns,
           (unsigned long long)board->longest_ns / 1000000);
    return 0;
}
