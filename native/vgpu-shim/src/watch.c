/* Twenty times a second: counters out, changed limits and a wanted card noticed. Five times a second NVML is
 * asked, whose figures lag by up to a second: good for what changes slowly. */
#include "watch.h"

#include <string.h>

#include "budget.h"
#include "cards.h"
#include "identity.h"
#include "pass.h"
#include "samples.h"

#define ASK_EVERY 4u              /* turns */
#define LOOK_EVERY 10u            /* turns, where nothing is capped */
#define GROWING_LOOKS 2u          /* that see the figure grow */
#define CROWDED_FOR_NS 2000000000u
#define IDLE_BELOW 5u             /* percent that others use */
#define MARGIN 5u                 /* percent that a high share leaves beside what others use */
#define WANTED_FOR_NS 500000000u  /* after a sign that others want the card */
#define LEAST_COMPARED_NS 2000000u
#define MANY_COMPARED 8u
#define CORRECT_EVERY_NS 1200000000u /* NVML's figure is over a second: one after the last change */
#define CORRECTION_ONE 4096u
#define LEAST_CORRECTION (CORRECTION_ONE / 4)
#define MOST_CORRECTION (CORRECTION_ONE * 8)

void vgpu_watch_add(struct vgpu_device *device, size_t offset, uint64_t value) {
    struct vgpu_usage_slot *slot = device->share_count ? vgpu_region_slot(&device->shares[0]) : 0;
    if (slot) __atomic_fetch_add((uint64_t *)(void *)((char *)slot + offset), value, __ATOMIC_RELAXED);
}

enum vgpu_company vgpu_watch_company(const struct vgpu_device *device) {
    return (enum vgpu_company)RELAXED_LOAD(&device->watched.company);
}

uint32_t vgpu_watch_arrivals(const struct vgpu_device *device) { return RELAXED_LOAD(&device->watched.arrivals); }

bool vgpu_watch_is_crowded(const struct vgpu_device *device) { return !RELAXED_LOAD(&device->watched.free); }

uint32_t vgpu_watch_ceiling(const struct vgpu_device *device) { return RELAXED_LOAD(&device->watched.ceiling); }

int64_t vgpu_watch_corrected(const struct vgpu_device *device, uint64_t estimate_ns) {
    uint32_t correction = RELAXED_LOAD(&device->watched.correction);
    uint64_t corrected = correction ? estimate_ns * correction / CORRECTION_ONE : estimate_ns;
    return corrected ? (int64_t)corrected : 1;
}

void vgpu_watch_compare(struct vgpu_device *device, uint64_t span_ns, uint64_t usual_ns) {
    __atomic_fetch_add(&device->watched.span_ns, span_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&device->watched.usual_ns, usual_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&device->watched.compared, 1, __ATOMIC_RELAXED);
    if (usual_ns > RELAXED_LOAD(&device->watched.longest_ns)) __atomic_store_n(&device->watched.longest_ns, usual_ns, __ATOMIC_RELAXED);
}

static void publish_launches(struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < VGPU_COUNTERS; i++) sum += RELAXED_LOAD(&device->counters[i].launches);
    if (sum == RELAXED_LOAD(&device->watched.published_launches) || !device->share_count) return;
    struct vgpu_usage_slot *slot = vgpu_region_slot(&device->shares[0]);
    if (!slot) return;
    uint64_t before = __atomic_exchange_n(&device->watched.published_launches, sum, __ATOMIC_RELAXED);
    __atomic_fetch_add(&slot->launches, sum - before, __ATOMIC_RELAXED);
    RELAXED_STORE(&slot->last_launch_ns, vgpu_now_ns());
}

/* Passes were given out under other terms than these. */
static void notice_changes(struct vgpu_device *device, uint64_t now) {
    uint32_t terms = vgpu_budget_limit(device) << 2 | (uint32_t)vgpu_watch_is_crowded(device) << 1 | vgpu_budget_is_paused(device);
    if (terms == device->watched.terms) return;
    device->watched.terms = terms;
    device->watched.corrected_ns = now; /* NVML still measures what was before */
    vgpu_pass_end_all();
}

/* Launches that take longer than usual wait for somebody: seen within two turns, long before NVML tells. */
static void notice_waiting(struct vgpu_device *device, uint64_t now) {
    if (RELAXED_LOAD(&device->watched.usual_ns) < LEAST_COMPARED_NS) return;
    uint64_t span = __atomic_exchange_n(&device->watched.span_ns, 0, __ATOMIC_RELAXED);
    uint64_t usual = __atomic_exchange_n(&device->watched.usual_ns, 0, __ATOMIC_RELAXED);
    bool many = __atomic_exchange_n(&device->watched.compared, 0, __ATOMIC_RELAXED) >= MANY_COMPARED;
    bool waits = span > usual + usual / 4, surely = many && span > usual + usual / 2;
    if (surely || (waits && device->watched.waited)) device->watched.wanted_until_ns = now + WANTED_FOR_NS;
    device->watched.waited = waits;
}

static uint64_t busy_of_process(struct vgpu_device *device) {
    struct vgpu_usage_slot *slot = device->share_count ? vgpu_region_slot(&device->shares[0]) : 0;
    return slot ? RELAXED_LOAD(&slot->busy_ns) : 0;
}

static uint64_t busy_of_share(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++) {
        sum += RELAXED_LOAD(&device->shares[i].usage->ended_busy_ns);
        for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++) {
            const struct vgpu_usage_slot *slot = &device->shares[i].usage->slots[n];
            if (ACQUIRE_LOAD(&slot->state) != VGPU_SLOT_FREE) sum += RELAXED_LOAD(&slot->busy_ns);
        }
    }
    return sum;
}

/* The last three readings of what was paid, so that a whole second lies between the first and the last. */
static void remember(struct vgpu_device *device, uint64_t now, uint64_t process, uint64_t share) {
    struct vgpu_reading *readings = device->watched.readings;
    memmove(&readings[1], &readings[0], (VGPU_READINGS - 1) * sizeof readings[0]);
    readings[0] = (struct vgpu_reading){now, process, share};
}

/* Percent of the card that was paid for between two readings. */
static uint32_t paid_between(uint64_t from_ns, uint64_t to_ns, uint64_t from, uint64_t to) {
    return to_ns > from_ns && to > from ? (uint32_t)((to - from) * 100 / (to_ns - from_ns)) : 0;
}

/* The estimates follow what NVML measured of this process, only when both stood still for a second, and by half when
 * it is less than was paid: a limit is sooner kept than used up. A difference of two points, or of two of the longest
 * launches, is noise. */
static void correct(struct vgpu_device *device, uint64_t moment, uint32_t measured) {
    const struct vgpu_reading *r = device->watched.readings;
    unsigned last = VGPU_READINGS - 1, middle = last / 2;
    if (vgpu_samples_are_behind(device)) device->watched.corrected_ns = moment; /* what runs now was paid long ago */
    if (!r[last].at_ns || moment < device->watched.corrected_ns + CORRECT_EVERY_NS) return;
    uint32_t paid = paid_between(r[last].at_ns, r[0].at_ns, r[last].process, r[0].process);
    uint32_t first = paid_between(r[last].at_ns, r[middle].at_ns, r[last].process, r[middle].process);
    uint32_t second = paid_between(r[middle].at_ns, r[0].at_ns, r[middle].process, r[0].process);
    bool steady = first * 5 < second * 6 && second * 5 < first * 6;
    uint32_t band = 2 + (uint32_t)(__atomic_exchange_n(&device->watched.longest_ns, 0, __ATOMIC_RELAXED) / 5000000u);
    bool differs = measured > paid + band || paid > measured + band;
    if (!steady || !differs || measured < 3 || paid < 3) return;
    uint64_t now = device->watched.correction ? device->watched.correction : CORRECTION_ONE;
    uint64_t next = measured > paid ? now * measured / paid : now * (paid + measured) / (2 * paid);
    next = next < LEAST_CORRECTION ? LEAST_CORRECTION : next > MOST_CORRECTION ? MOST_CORRECTION : next;
    device->watched.corrected_ns = moment;
    __atomic_store_n(&device->watched.correction, (uint32_t)next, __ATOMIC_RELAXED);
}

/* About 0.6 s ago, or as long as this process knows the card. */
static const struct vgpu_reading *past_reading(const struct vgpu_device *device) {
    unsigned at = VGPU_READINGS / 2;
    while (at && !device->watched.readings[at].at_ns) at--;
    return &device->watched.readings[at];
}

static uint32_t ceiling(const struct vgpu_device *device, uint64_t now, uint32_t others) {
    bool beside_others = others >= IDLE_BELOW && vgpu_budget_has_priority(device);
    if (beside_others) return others + MARGIN < 100 ? 100 - others - MARGIN : 0;
    return others < IDLE_BELOW && now >= device->watched.wanted_until_ns ? 100 : 0;
}

/* NVML's figure for a process is over a longer time than the one for the card: in a process's first second, a
 * card that is up to twice as busy as the process says nothing. */
static void note_company(struct vgpu_device *device, uint64_t moment, uint32_t card, uint32_t mine) {
    bool is_known = device->watched.readings[VGPU_READINGS - 1].at_ns || card > 2 * mine + IDLE_BELOW;
    enum vgpu_company before = vgpu_watch_company(device);
    enum vgpu_company now = card < mine + IDLE_BELOW ? VGPU_ALONE : is_known || before ? VGPU_IN_COMPANY : VGPU_COMPANY_UNKNOWN;
    if (before != now) device->watched.corrected_ns = moment; /* what was paid before does not compare */
    if (before == VGPU_ALONE && now == VGPU_IN_COMPANY) __atomic_fetch_add(&device->watched.arrivals, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&device->watched.company, now, __ATOMIC_RELAXED);
}

static void ask_nvml(struct vgpu_device *device, uint64_t now) {
    uint32_t card, own = 0;
    uint64_t process = busy_of_process(device), share = busy_of_share(device);
    remember(device, now, process, share);
    if (!vgpu_card_utilisation(device, &card)) return;
    const struct vgpu_reading *past = past_reading(device);
    uint32_t paid = paid_between(past->at_ns, now, past->process, process);
    uint32_t by_share = paid_between(past->at_ns, now, past->share, share);
    bool known = vgpu_card_process_utilisation(device, &own);
    uint32_t mine = known && own > paid ? own : paid, shares = by_share > mine ? by_share : mine;
    note_company(device, now, card, known ? own : paid);
    device->watched.others = card > shares ? card - shares : 0;
    if (vgpu_watch_ceiling(device)) device->watched.corrected_ns = now; /* NVML still measures it when it ends */
    else if (known) correct(device, now, own);
}

/* A card's queue knows no limits: who fills it keeps the others below theirs. Only NVML's own figure for the process
 * says who fills it, since launches that nothing caps are not measured; it is over a longer time than the card's, so
 * that it says nothing while it grows. */
static void look_for_others(struct vgpu_device *device, uint64_t now) {
    uint32_t card, own = 0;
    bool tells = vgpu_card_utilisation(device, &card) && vgpu_nvml_pid();
    if (tells) vgpu_card_process_utilisation(device, &own);
    device->watched.looks = own >= IDLE_BELOW ? device->watched.looks + 1 : 0;
    bool grows = device->watched.looks <= GROWING_LOOKS;
    if (!grows && card >= own + IDLE_BELOW) device->watched.crowded_until_ns = now + CROWDED_FOR_NS;
    __atomic_store_n(&device->watched.free, !tells || (!grows && now >= device->watched.crowded_until_ns), __ATOMIC_RELAXED);
}

static void ask_others(struct vgpu_device *device, uint64_t now) {
    bool capped = vgpu_budget_limit(device);
    uint32_t turn = device->watched.turn++;
    if (capped && turn % ASK_EVERY == 0) ask_nvml(device, now);
    if (!capped && turn % LOOK_EVERY == 0 && device->share_count) look_for_others(device, now);
}

void vgpu_watch(struct vgpu_device *device) {
    uint64_t now = vgpu_now_ns();
    publish_launches(device);
    vgpu_samples_collect();
    notice_waiting(device, now);
    ask_others(device, now);
    bool bursts = vgpu_budget_may_burst(device) && device->watched.readings[1].at_ns;
    __atomic_store_n(&device->watched.ceiling, bursts ? ceiling(device, now, device->watched.others) : 0, __ATOMIC_RELAXED);
    notice_changes(device, now);
}

void vgpu_watch_forget(void) {
    unsigned count;
    struct vgpu_device *devices = vgpu_all_devices(&count);
    for (unsigned i = 0; i < count; i++) {
        memset(devices[i].counters, 0, sizeof devices[i].counters);
        memset(&devices[i].watched, 0, sizeof devices[i].watched);
    }
}

/* A process that ends in order leaves its last counts. */
__attribute__((destructor)) static void publish_last_counts(void) {
    unsigned count;
    struct vgpu_device *devices = vgpu_all_devices(&count);
    for (unsigned i = 0; i < count; i++) publish_launches(&devices[i]);
}
