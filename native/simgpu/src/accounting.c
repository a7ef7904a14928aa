/*
 * Memory really accounted: a card is never fuller than it is, and a dead process holds nothing.
 *
 * The accounts of the slots are the truth; a card's `used` is their sum, kept for speed and computed
 * anew whenever a dead process is found, so that a SIGKILL between two stores cannot leave it wrong.
 */
#include "simgpu_core.h"

#include <pthread.h>
#include <sched.h>

#define SPINS_BEFORE_LIVENESS_CHECK 2000

static void recount(struct simgpu_card *card, int number) {
    uint64_t sum = 0;
    for (int slot = 0; slot < SIMGPU_MAX_SLOTS; slot++)
        if (simgpu->slots[slot].taken)
            sum += simgpu->slots[slot].accounts[number].bytes;
    card->used = sum;
}

/*
 * Takes the card's lock in the name of a slot whose record lock this process holds: its own, or the one
 * that it is clearing up. One held in the name of a dead slot is taken over and its damage repaired.
 */
static void lock_card(int number, int slot) {
    struct simgpu_card *card = &simgpu->cards[number];
    uint64_t mine = (uint64_t)slot + 1;
    for (unsigned spins = 1;; spins++) {
        uint64_t holder = 0;
        if (atomic_compare_exchange_strong(&card->lock, &holder, mine))
            return;
        if (spins % SPINS_BEFORE_LIVENESS_CHECK == 0) {
            pid_t pid;
            bool dead = holder && holder != mine && !simgpu_slot_lives((int)holder - 1, &pid);
            if (dead && atomic_compare_exchange_strong(&card->lock, &holder, mine)) {
                recount(card, number);
                return;
            }
        }
        sched_yield();
    }
}

static bool holds_card(int slot, int number) {
    return atomic_load_explicit(&simgpu->cards[number].lock, memory_order_acquire) == (uint64_t)slot + 1;
}

static void unlock_card(int number) {
    atomic_store_explicit(&simgpu->cards[number].lock, 0, memory_order_release);
}

static void raise_peak(simgpu_u64 *peak, uint64_t value) {
    if (atomic_load_explicit(peak, memory_order_relaxed) < value)
        atomic_store_explicit(peak, value, memory_order_relaxed);
}

/* A driver needs a moment to free what an ended process held; until then it is on the card. */
bool simgpu_lingers(int number) {
    struct simgpu_slot *slot = &simgpu->slots[number];
    uint64_t none = 0, now = simgpu_now();
    if (!simgpu->linger_ns)
        return false;
    atomic_compare_exchange_strong(&slot->ended, &none, now);
    return now < slot->ended + simgpu->linger_ns;
}

/* What living processes hold: a dead one holds nothing, noticed or not, and must not make a peak. */
static uint64_t held_by_living(int number) {
    uint64_t sum = 0;
    for (int slot = 0; slot < SIMGPU_MAX_SLOTS; slot++) {
        pid_t pid;
        uint64_t bytes = simgpu->slots[slot].taken ? simgpu->slots[slot].accounts[number].bytes : 0;
        if (bytes && (slot == simgpu_slot || simgpu_slot_lives(slot, &pid) || simgpu_lingers(slot)))
            sum += bytes;
    }
    return sum;
}

static void note_peak(int number, uint64_t used) {
    struct simgpu_card *card = &simgpu->cards[number];
    if (atomic_load_explicit(&card->peak, memory_order_relaxed) < used)
        raise_peak(&card->peak, held_by_living(number));
}

static bool try_charge(int number, uint64_t bytes) {
    struct simgpu_card *card = &simgpu->cards[number];
    struct simgpu_account *account = &simgpu->slots[simgpu_slot].accounts[number];
    lock_card(number, simgpu_slot);
    uint64_t used = atomic_load_explicit(&card->used, memory_order_relaxed);
    bool fits = bytes <= card->facts.memory && used <= card->facts.memory - bytes;
    if (fits) {
        uint64_t own = atomic_load_explicit(&account->bytes, memory_order_relaxed) + bytes;
        atomic_store_explicit(&account->bytes, own, memory_order_relaxed);
        atomic_store_explicit(&card->used, used + bytes, memory_order_relaxed);
        note_peak(number, used + bytes);
        raise_peak(&account->peak, own);
    }
    unlock_card(number);
    return fits;
}

bool simgpu_charge(int card, uint64_t bytes) {
    if (try_charge(card, bytes))
        return true;
    simgpu_reap();
    if (try_charge(card, bytes))
        return true;
    simgpu->cards[card].refused++;
    return false;
}

void simgpu_discharge(int number, uint64_t bytes) {
    struct simgpu_card *card = &simgpu->cards[number];
    struct simgpu_account *account = &simgpu->slots[simgpu_slot].accounts[number];
    lock_card(number, simgpu_slot);
    atomic_fetch_sub(&account->bytes, bytes);
    atomic_fetch_sub(&card->used, bytes);
    unlock_card(number);
}

/* The queue loses what a dead process had still to run, as the driver drops a dead channel. */
static void shorten_queue(int number) {
    struct simgpu_card *card = &simgpu->cards[number];
    uint64_t until = card->busy_until, needed = simgpu_now();
    for (int slot = 0; slot < SIMGPU_MAX_SLOTS; slot++) {
        struct simgpu_slot *entry = &simgpu->slots[slot];
        if (entry->taken && entry->accounts[number].last_end > needed)
            needed = entry->accounts[number].last_end;
    }
    if (needed < until)
        atomic_compare_exchange_strong(&card->busy_until, &until, needed);
}

/* With the dead slot's record lock held: a card that is locked in its name was left so by its death, and is ours. */
static void release_accounts(struct simgpu_slot *slot) {
    int name = (int)(slot - simgpu->slots);
    for (uint64_t number = 0; number < simgpu->card_count; number++) {
        struct simgpu_account *account = &slot->accounts[number];
        bool left_locked = holds_card(name, (int)number);
        if (!left_locked && account->contexts == 0 && account->bytes == 0 && account->last_end == 0)
            continue;
        if (!left_locked)
            lock_card((int)number, name);
        account->bytes = 0;
        account->contexts = 0;
        recount(&simgpu->cards[number], (int)number);
        simgpu->cards[number].released++;
        unlock_card((int)number);
    }
    slot->taken = 0;
    for (uint64_t number = 0; number < simgpu->card_count; number++)
        shorten_queue((int)number);
}

static pthread_mutex_t reap_lock = PTHREAD_MUTEX_INITIALIZER; /* threads of one library share its lock */

void simgpu_forget_reaping(void) {
    pthread_mutex_init(&reap_lock, NULL);
}

void simgpu_reap(void) {
    pthread_mutex_lock(&reap_lock);
    for (int number = 0; number < SIMGPU_MAX_SLOTS; number++) {
        struct simgpu_slot *slot = &simgpu->slots[number];
        pid_t pid;
        if (!slot->taken || simgpu_slot_lives(number, &pid) || simgpu_lingers(number) || !simgpu_lock_slot(number))
            continue;
        if (slot->taken)
            release_accounts(slot);
        simgpu_unlock_slot(number);
    }
    pthread_mutex_unlock(&reap_lock);
}
