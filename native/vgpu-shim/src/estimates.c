/* A measured span holds the launch and whatever else the card did in between. A clean one (samples.c says
 * which are) goes into the mean as it is, so that work of varying length is paid by its mean. As long as none
 * is to be had, a span far above the shortest seen lately counts as disturbed, and the mean is taken over
 * the others: right for work of constant length, too low for the rest, which the watch corrects. */
#include "estimates.h"

#include <string.h>

#define ESTIMATES 4096u
#define LONGEST_SEARCH 64u
#define SAMPLE_PERIOD_NS 2000000u /* two samples about once per this much device time */
#define LONGEST_TURN 512u
#define FIRST_SAMPLES 6u /* each of them is measured */
#define STRETCH 32u /* samples: the shortest span of two stretches counts */
#define ENOUGH_CLEAN 4u
#define CLEAN_LASTS 64u /* samples */
#define PAIR_AFTER 8u   /* samples that were not clean */
#define KEPT_FOR_NS 600000000u /* longer than it takes to notice that somebody has come to the card */
#define CLEAN_WEIGHT 16u
#define FILTERED_WEIGHT 8u

static struct vgpu_estimate estimates[ESTIMATES + 1];

static uint64_t mixed(uint64_t key, uint64_t more) {
    key = (key ^ more) * 0x9e3779b97f4a7c15ull;
    return key ^ key >> 29;
}

struct vgpu_estimate *vgpu_estimate_of(const void *work, const struct vgpu_shape *shape) {
    uint64_t key = mixed((uint64_t)work, shape->x | (uint64_t)shape->y << 32);
    key = mixed(mixed(key, shape->z | (uint64_t)shape->block_x << 32), shape->block_y | (uint64_t)shape->block_z << 32);
    key = key ? key : 1;
    for (uint32_t step = 0; step < LONGEST_SEARCH; step++) {
        struct vgpu_estimate *estimate = &estimates[(key + step) % ESTIMATES];
        uint64_t seen = RELAXED_LOAD(&estimate->key);
        if (seen == key) return estimate;
        if (!seen && __atomic_compare_exchange_n(&estimate->key, &seen, key, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return estimate;
        if (seen == key) return estimate;
    }
    return &estimates[ESTIMATES];
}

static uint32_t turn_length(const struct vgpu_estimate *estimate) {
    uint64_t mean = RELAXED_LOAD(&estimate->mean_ns);
    if (!mean || RELAXED_LOAD(&estimate->samples) < FIRST_SAMPLES) return 1;
    uint64_t length = SAMPLE_PERIOD_NS / mean;
    return length > LONGEST_TURN ? LONGEST_TURN : length ? (uint32_t)length : 1;
}

static bool is_turn_of(const struct vgpu_estimate *estimate, bool is_turn) {
    return is_turn || RELAXED_LOAD(&estimate->is_second) || RELAXED_LOAD(&estimate->turn) + 1 >= turn_length(estimate);
}

bool vgpu_estimate_wants_pair(const struct vgpu_estimate *estimate, bool is_turn) {
    bool lacks_clean = !RELAXED_LOAD(&estimate->clean) || RELAXED_LOAD(&estimate->since_clean) >= PAIR_AFTER;
    return lacks_clean && !RELAXED_LOAD(&estimate->is_second) && is_turn_of(estimate, is_turn);
}

bool vgpu_estimate_wants_sample(struct vgpu_estimate *estimate, bool is_turn) {
    bool due = is_turn_of(estimate, is_turn);
    __atomic_store_n(&estimate->turn, due ? 0 : RELAXED_LOAD(&estimate->turn) + 1, __ATOMIC_RELAXED);
    if (due) __atomic_store_n(&estimate->is_second, !RELAXED_LOAD(&estimate->is_second), __ATOMIC_RELAXED);
    return due;
}

/* A little more or less each time: launches come in rhythms, and always the same beat would be measured. */
int64_t vgpu_estimate_until_next(const struct vgpu_estimate *estimate) {
    uint32_t length = turn_length(estimate), swing = length / 2;
    uint32_t chance = RELAXED_LOAD(&estimate->samples) * 0x9e3779b1u >> 16;
    if (RELAXED_LOAD(&estimate->is_second)) return 0;
    return (int64_t)(length - 1 - swing / 2 + (swing ? chance % (swing + 1) : 0));
}

static uint64_t moved(uint64_t mean, uint64_t span, uint64_t weight) {
    uint64_t next = mean + (uint64_t)(((int64_t)span - (int64_t)mean) / (int64_t)weight);
    return next ? next : 1;
}

uint64_t vgpu_estimate_usual(const struct vgpu_estimate *estimate) {
    uint64_t kept = RELAXED_LOAD(&estimate->kept_ns);
    return kept ? kept : RELAXED_LOAD(&estimate->mean_ns);
}

static uint64_t learn_clean(struct vgpu_estimate *estimate, uint64_t mean, uint64_t span) {
    uint32_t clean = RELAXED_LOAD(&estimate->clean);
    uint64_t weight = clean < CLEAN_WEIGHT ? clean + 1 : CLEAN_WEIGHT;
    RELAXED_STORE(&estimate->clean, clean + 1);
    RELAXED_STORE(&estimate->since_clean, 0);
    RELAXED_STORE(&estimate->mean_ns, weight == 1 ? span : moved(mean, span, weight));
    return span;
}

/* What was learnt just before somebody else was noticed was disturbed already. */
static void forget_disturbed(struct vgpu_estimate *estimate, uint32_t arrivals) {
    if (RELAXED_LOAD(&estimate->arrivals) == arrivals) return;
    RELAXED_STORE(&estimate->arrivals, arrivals);
    uint64_t kept = RELAXED_LOAD(&estimate->kept_ns);
    if (kept) RELAXED_STORE(&estimate->mean_ns, kept);
    else RELAXED_STORE(&estimate->clean, 0);
    RELAXED_STORE(&estimate->next_kept_ns, kept);
}

static void keep_mean(struct vgpu_estimate *estimate) {
    uint64_t now = vgpu_now_ns();
    if (now - RELAXED_LOAD(&estimate->kept_at_ns) < KEPT_FOR_NS) return;
    RELAXED_STORE(&estimate->kept_ns, RELAXED_LOAD(&estimate->next_kept_ns));
    RELAXED_STORE(&estimate->next_kept_ns, RELAXED_LOAD(&estimate->mean_ns));
    RELAXED_STORE(&estimate->kept_at_ns, now);
}

static uint64_t learn_filtered(struct vgpu_estimate *estimate, uint64_t mean, uint64_t span) {
    uint64_t least = RELAXED_LOAD(&estimate->least_ns), before = RELAXED_LOAD(&estimate->least_before_ns);
    if (before && before < least) least = before;
    uint64_t most = least + least / 8;
    uint32_t samples = RELAXED_LOAD(&estimate->samples);
    uint64_t weight = samples < 1 ? 1 : samples < FILTERED_WEIGHT ? samples : FILTERED_WEIGHT;
    if (span > most) return mean ? mean : least;
    RELAXED_STORE(&estimate->mean_ns, !mean || mean > most ? span : moved(mean, span, weight));
    return span;
}

static void note_least(struct vgpu_estimate *estimate, uint64_t span) {
    uint64_t least = RELAXED_LOAD(&estimate->least_ns);
    bool starts = RELAXED_LOAD(&estimate->samples) % STRETCH == 0;
    if (starts) RELAXED_STORE(&estimate->least_before_ns, least);
    if (starts || span < least) RELAXED_STORE(&estimate->least_ns, span);
}

/* Threads may learn about the same work at once. One's sample may then be lost to the other's, which the next one
 * makes good: nothing here is worth a lock on the way of a launch. */
uint64_t vgpu_estimate_learn(struct vgpu_estimate *estimate, uint64_t span, bool is_clean, uint32_t arrivals) {
    forget_disturbed(estimate, arrivals);
    keep_mean(estimate);
    uint64_t mean = RELAXED_LOAD(&estimate->mean_ns);
    span = span ? span : 1;
    note_least(estimate, span);
    RELAXED_STORE(&estimate->samples, RELAXED_LOAD(&estimate->samples) + 1);
    if (is_clean) return learn_clean(estimate, mean, span);
    uint32_t since = RELAXED_LOAD(&estimate->since_clean);
    if (since < CLEAN_LASTS) RELAXED_STORE(&estimate->since_clean, since + 1);
    else RELAXED_STORE(&estimate->clean, 0);
    return RELAXED_LOAD(&estimate->clean) >= ENOUGH_CLEAN ? mean : learn_filtered(estimate, mean, span);
}

void vgpu_estimates_forget(void) { memset(estimates, 0, sizeof estimates); }
