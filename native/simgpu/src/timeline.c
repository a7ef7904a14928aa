/*
 * The time line: kernels occupy a card one after the other, whoever sent them.
 *
 * The order is that of submission. Each process writes down the stretches of time that its own work
 * takes, short neighbours merged, so that utilisation over any recent window is a sum, not a sample.
 */
#include "simgpu_core.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#define MERGE_NS 8000000ull    /* stretches are merged up to this length */
#define MERGE_AHEAD 64         /* or up to this part of how far ahead they lie: the ring must reach back to now */
#define SPIN_NS 60000ull       /* a sleep would overshoot by about this much */
#define QUEUE_DEPTH 1024       /* launches in flight before a launch blocks, as on a real card */

static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t in_flight[SIMGPU_MAX_CARDS][QUEUE_DEPTH];
static unsigned in_flight_next[SIMGPU_MAX_CARDS];

uint64_t simgpu_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void simgpu_wait_until(uint64_t moment) {
    if (simgpu_now() + SPIN_NS < moment) {
        uint64_t wake = moment - SPIN_NS;
        struct timespec until = {(time_t)(wake / 1000000000ull), (long)(wake % 1000000000ull)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
        }
    }
    while (simgpu_now() < moment)
        sched_yield();
}

static uint64_t enqueue(struct simgpu_card *card, uint64_t ready, uint64_t duration, uint64_t *start) {
    uint64_t until = atomic_load_explicit(&card->busy_until, memory_order_relaxed);
    do {
        *start = until > ready ? until : ready;
    } while (!atomic_compare_exchange_weak(&card->busy_until, &until, *start + duration));
    return *start + duration;
}

static void write_down(struct simgpu_account *account, uint64_t start, uint64_t end, uint64_t now) {
    uint64_t count = account->stretches, ahead = (end - now) / MERGE_AHEAD;
    struct simgpu_stretch *last = &account->trace[(count - 1) % SIMGPU_TRACE];
    if (count && end - last->start <= (ahead > MERGE_NS ? ahead : MERGE_NS)) {
        last->busy += end - start;
        last->end = end;
        return;
    }
    struct simgpu_stretch *fresh = &account->trace[count % SIMGPU_TRACE];
    fresh->start = start;
    fresh->busy = end - start;
    fresh->end = end;
    account->stretches = count + 1;
}

uint64_t simgpu_occupy(int number, uint64_t ready, uint64_t duration) {
    struct simgpu_card *card = &simgpu->cards[number];
    struct simgpu_account *account = &simgpu->slots[simgpu_slot].accounts[number];
    atomic_fetch_add_explicit(&account->launches, 1, memory_order_relaxed);
    if (simgpu_counting_only)
        return 0;
    atomic_fetch_add_explicit(&card->launches, 1, memory_order_relaxed);
    pthread_mutex_lock(&trace_lock);
    uint64_t *oldest = &in_flight[number][in_flight_next[number]++ % QUEUE_DEPTH];
    uint64_t now = simgpu_now(), room_at = *oldest, start;
    uint64_t end = enqueue(card, ready > now ? ready : now, duration, &start);
    *oldest = end;
    account->busy += duration;
    account->last_end = end;
    write_down(account, start, end, now);
    pthread_mutex_unlock(&trace_lock);
    if (room_at > now)
        simgpu_wait_until(room_at);
    return end;
}

static uint64_t overlap(const struct simgpu_stretch *stretch, uint64_t from, uint64_t to) {
    uint64_t start = stretch->start, end = stretch->end, busy = stretch->busy;
    uint64_t low = start > from ? start : from, high = end < to ? end : to;
    if (end <= start || high <= low)
        return 0;
    if (low == start && high == end)
        return busy;
    return (uint64_t)((double)busy * (double)(high - low) / (double)(end - start));
}

uint64_t simgpu_busy_between(int slot, int card, uint64_t from, uint64_t to) {
    const struct simgpu_account *account = &simgpu->slots[slot].accounts[card];
    uint64_t count = account->stretches, busy = 0;
    for (uint64_t back = 1; back <= count && back <= SIMGPU_TRACE; back++) {
        const struct simgpu_stretch *stretch = &account->trace[(count - back) % SIMGPU_TRACE];
        if (stretch->end <= from)
            break;
        busy += overlap(stretch, from, to);
    }
    return busy;
}
