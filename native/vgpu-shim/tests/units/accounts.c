/* accounts <folder>: the accounting of a share in every state that a dead, stopped or copied process can leave it
 * in. Says what fails, and exits 0 if nothing does. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "../../src/budget.h"
#include "unit.h"

extern struct vgpu_region unit_region;
static struct vgpu_region *const region = &unit_region;

/* Words that parent and children see. */
static struct {
    uint32_t stage, number;
} *board;

static void map(const char *folder) {
    unit_make_share(folder, 100 * MIB);
    CHECK(vgpu_region_map(region, folder) == 0);
    vgpu_process_begin();
    board->stage = 0;
}

static void unmap(void) {
    munmap(region->usage, VGPU_USAGE_SIZE);
    munmap((void *)(uintptr_t)region->limits, VGPU_LIMITS_SIZE);
    vgpu_region_forget_slot(region);
}

static uint64_t charged(void) { return __atomic_load_n(&region->usage->charged_bytes, __ATOMIC_SEQ_CST); }

static void takes_to_the_last_byte_and_gives_back(void) {
    CHECK(vgpu_region_take(region, 60 * MIB, false, VGPU_KIND_BUFFER) == 60 * MIB);
    CHECK(vgpu_region_take(region, 40 * MIB + 1, false, VGPU_KIND_BUFFER) == 0);
    CHECK(vgpu_region_take(region, 50 * MIB, true, VGPU_KIND_MANAGED) == 40 * MIB);
    CHECK(vgpu_region_take(region, 1, false, VGPU_KIND_BUFFER) == 0);
    CHECK(region->slot->buffer_bytes == 60 * MIB && region->slot->managed_bytes == 40 * MIB);
    vgpu_region_give(region, 60 * MIB, VGPU_KIND_BUFFER);
    vgpu_region_give(region, 40 * MIB, VGPU_KIND_MANAGED);
    CHECK(charged() == 0 && region->slot->charged_bytes == 0 && region->usage->peak_bytes == 100 * MIB);
}

static int takes_and_waits(struct vgpu_region *mine) {
    CHECK(vgpu_region_take(mine, 30 * MIB, false, VGPU_KIND_BUFFER) == 30 * MIB);
    mine->slot->launches = 7;
    board->number = (uint32_t)(mine->slot - mine->usage->slots);
    RELEASE_STORE(&board->stage, 1);
    for (;;) pause();
}

static pid_t start_taker(const char *folder) {
    CHECK(vgpu_region_slot(region));
    board->stage = 0;
    pid_t child = unit_child(folder, takes_and_waits);
    unit_await(&board->stage, 1);
    return child;
}

static void a_dead_process_is_cleared_and_its_counters_stay(const char *folder) {
    pid_t child = start_taker(folder);
    vgpu_region_repair(region);
    CHECK(charged() == 30 * MIB);
    unit_kill(child);
    vgpu_region_repair(region);
    CHECK(charged() == 0 && region->usage->slots[board->number].state == VGPU_SLOT_FREE);
    CHECK(region->usage->ended_launches == 7);
}

/* Killed between the total and its own figure, each way round. */
static void a_process_killed_amid_a_change_leaves_no_charge(const char *folder, int64_t difference) {
    CHECK(vgpu_region_take(region, 5 * MIB, false, VGPU_KIND_BUFFER) == 5 * MIB);
    pid_t child = start_taker(folder);
    region->usage->slots[board->number].operations = 1;
    region->usage->charged_bytes += (uint64_t)difference;
    unit_kill(child);
    vgpu_region_repair(region);
    CHECK(charged() == 5 * MIB && !region->usage->recount_stale && !region->usage->recount_owner);
}

/* A repairer had taken the charge off the total and died before it cleared the slot. */
static void a_process_killed_amid_a_repair_leaves_an_exact_total(const char *folder) {
    pid_t child = start_taker(folder);
    unit_kill(child);
    region->usage->slots[board->number].operations = 1;
    region->usage->charged_bytes = 0;
    vgpu_region_repair(region);
    CHECK(charged() == 0 && region->usage->slots[board->number].state == VGPU_SLOT_FREE);
}

static bool always(const struct vgpu_usage_slot *dead) { return dead != 0; }

/* The driver still holds what the dead process had: the charge stays, exact, and delays nobody's recount. */
static void a_lingering_process_keeps_its_charge_until_the_driver_lets_go(const char *folder) {
    pid_t child = start_taker(folder);
    region->usage->slots[board->number].operations = 1;
    region->usage->charged_bytes -= 3 * MIB;
    region->usage->recount_owner = board->number + 1;
    unit_kill(child);
    vgpu_region_lingers = always;
    vgpu_region_repair(region);
    CHECK(charged() == 30 * MIB && !region->usage->recount_stale && !region->usage->recount_owner);
    CHECK(vgpu_region_take(region, 71 * MIB, false, VGPU_KIND_BUFFER) == 0);
    vgpu_region_lingers = 0;
    vgpu_region_repair(region);
    CHECK(charged() == 0);
}

/* A recounter had forgotten the mark, and died before it wrote the total. */
static void a_process_killed_amid_a_recount_leaves_an_exact_total(const char *folder) {
    pid_t child = start_taker(folder);
    region->usage->recount_owner = board->number + 1;
    region->usage->charged_bytes = 77 * MIB;
    unit_kill(child);
    CHECK(vgpu_region_take(region, 100 * MIB, false, VGPU_KIND_BUFFER) == 100 * MIB);
    CHECK(charged() == 100 * MIB && !region->usage->recount_owner && !region->usage->recount_stale);
}

static void a_recount_under_our_name_that_is_not_ours_ends_at_once(void) {
    CHECK(vgpu_region_take(region, MIB, false, VGPU_KIND_BUFFER) == MIB);
    region->usage->recount_owner = (uint32_t)(region->slot - region->usage->slots) + 1;
    uint64_t since = vgpu_now_ns();
    CHECK(vgpu_region_take(region, MIB, false, VGPU_KIND_BUFFER) == MIB);
    CHECK(vgpu_now_ns() - since < 200000000u && charged() == 2 * MIB);
}

static void a_stopped_recounter_holds_nobody_up_for_long(const char *folder) {
    pid_t child = start_taker(folder);
    region->usage->recount_owner = board->number + 1;
    uint64_t since = vgpu_now_ns();
    CHECK(vgpu_region_take(region, MIB, false, VGPU_KIND_BUFFER) == MIB);
    CHECK(vgpu_now_ns() - since < 5000000000ull);
    CHECK(charged() == 31 * MIB);
    unit_kill(child);
}

/* One lives, stopped amid a change, and one has died amid another: nobody waits for ever, nothing is lost. */
static void a_process_stopped_amid_a_change_delays_the_recount_only(const char *folder) {
    pid_t stopped = start_taker(folder);
    uint32_t number = board->number;
    region->usage->slots[number].operations = 1;
    pid_t dead = start_taker(folder);
    region->usage->slots[board->number].operations = 1;
    unit_kill(dead);
    vgpu_region_repair(region);
    CHECK(region->usage->recount_stale && !region->usage->recount_owner);
    CHECK(vgpu_region_take(region, 40 * MIB, false, VGPU_KIND_BUFFER) == 40 * MIB);
    region->usage->slots[number].operations = 0;
    region->recount_not_before_ns = 0;
    vgpu_region_repair(region);
    CHECK(charged() == 70 * MIB && !region->usage->recount_stale);
    unit_kill(stopped);
}

/* For a process from elsewhere, ours still lives although its descriptor is closed: the mapping holds the lock. */
static int sees_what_ours_holds(struct vgpu_region *mine) {
    CHECK(vgpu_region_slot(mine));
    return __atomic_load_n(&mine->usage->charged_bytes, __ATOMIC_SEQ_CST) == 20 * MIB ? 0 : 1;
}

/* Programs that turn into a service close every descriptor that they do not know, and reuse the numbers. */
static void closed_descriptors_make_nobody_look_dead(const char *folder) {
    pid_t child = start_taker(folder);
    CHECK(vgpu_region_take(region, 10 * MIB, false, VGPU_KIND_BUFFER) == 10 * MIB);
    int others[64];
    for (int file = 3; file < 64; file++) close(file);
    for (int file = 3; file < 64; file++) CHECK((others[file] = open("/dev/null", O_RDWR)) == file);
    vgpu_region_repair(region);
    CHECK(charged() == 40 * MIB);
    CHECK(vgpu_region_take(region, 10 * MIB, false, VGPU_KIND_BUFFER) == 10 * MIB);
    unit_kill(child);
    vgpu_region_repair(region);
    CHECK(charged() == 20 * MIB);
    unit_await_exit(unit_child(folder, sees_what_ours_holds));
    vgpu_region_forget_slot(region);
    for (int file = 3; file < 64; file++) CHECK(close(others[file]) == 0);
}

/* An emulator may say that it will and not do it. */
static bool kernel_wipes_pages_of_copies(void) {
    uint32_t *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED && madvise(page, 4096, 18 /* MADV_WIPEONFORK */) == 0);
    *page = 1;
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(*page == 0);
    CHECK(waitpid(child, &status, 0) == child && munmap(page, 4096) == 0);
    return WEXITSTATUS(status) == 1;
}

static void a_bare_fork_is_noticed(void) {
    if (!kernel_wipes_pages_of_copies()) {
        puts("no page is wiped here: cannot be tried:");
        return;
    }
    CHECK(vgpu_region_take(region, 10 * MIB, false, VGPU_KIND_BUFFER) == 10 * MIB);
    struct vgpu_usage_slot *parents = region->slot;
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    CHECK(child >= 0);
    if (child == 0) {
        vgpu_region_give(region, 10 * MIB, VGPU_KIND_BUFFER);
        CHECK(parents->charged_bytes == 10 * MIB);
        CHECK(vgpu_region_take(region, 20 * MIB, false, VGPU_KIND_BUFFER) == 20 * MIB);
        CHECK(region->slot != parents && region->slot->pid == (int32_t)getpid() && charged() == 30 * MIB);
        _exit(0);
    }
    unit_await_exit(child);
    vgpu_region_repair(region);
    CHECK(region->slot == parents && charged() == 10 * MIB);
}

static void with_every_slot_taken_nothing_is_granted_until_one_ends(const char *folder) {
    pid_t child = start_taker(folder);
    int strangers = open(region->usage_path, O_RDWR);
    CHECK(strangers >= 0);
    for (unsigned n = 0; n < VGPU_USAGE_SLOTS; n++) {
        if (n == board->number || &region->usage->slots[n] == region->slot) continue;
        CHECK(vgpu_slot_lock(strangers, n, true));
        region->usage->slots[n].state = VGPU_SLOT_CLAIMED;
    }
    struct vgpu_region another;
    CHECK(vgpu_region_map(&another, folder) == 0);
    CHECK(vgpu_region_take(&another, 1, false, VGPU_KIND_BUFFER) == 0);
    unit_kill(child);
    CHECK(vgpu_region_take(&another, MIB, false, VGPU_KIND_BUFFER) == MIB);
    CHECK(charged() == MIB);
    close(strangers);
    vgpu_region_forget_slot(&another);
    munmap(another.usage, VGPU_USAGE_SIZE);
    munmap((void *)(uintptr_t)another.limits, VGPU_LIMITS_SIZE);
}

/* The path has come to mean another file: locks there say nothing about ours. */
static void a_replaced_file_clears_nobody(const char *folder) {
    char kept[PATH_MAX];
    pid_t child = start_taker(folder);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    CHECK(rename(region->usage_path, kept) == 0);
    struct vgpu_usage *empty = unit_usage();
    unit_write(folder, "usage", empty, sizeof *empty);
    free(empty);
    vgpu_region_repair(region);
    CHECK(charged() == 30 * MIB);
    unit_kill(child);
    vgpu_region_repair(region);
    CHECK(charged() == 0);
}

static void what_is_lent_or_paused_ends_with_the_lenders_heartbeat(const char *folder) {
    struct vgpu_limits limits = unit_limits(10 * MIB);
    limits.memory_current_bytes = 50 * MIB;
    limits.cores_guaranteed = 10;
    limits.cores_current = 60;
    limits.heartbeat_timeout_ns = 1000000000;
    limits.heartbeat_ns = vgpu_now_ns() + 3600000000000ull;
    unit_write(folder, "limits", &limits, sizeof limits);
    CHECK(vgpu_region_memory_limit(region) == 50 * MIB && vgpu_region_cores_limit(region) == 60);
    limits.gate = VGPU_GATE_PAUSED;
    unit_write(folder, "limits", &limits, sizeof limits);
    CHECK(vgpu_region_is_paused(region));
    limits.heartbeat_ns = 0;
    unit_write(folder, "limits", &limits, sizeof limits);
    CHECK(vgpu_region_memory_limit(region) == 10 * MIB && vgpu_region_cores_limit(region) == 10);
    CHECK(!vgpu_region_is_paused(region));
}

static int result_of(const char *folder) {
    struct vgpu_region mine;
    int result = vgpu_region_map(&mine, folder);
    if (mine.limits) munmap((void *)(uintptr_t)mine.limits, VGPU_LIMITS_SIZE);
    if (result == 0) munmap(mine.usage, VGPU_USAGE_SIZE);
    return result;
}

static void files_that_are_not_a_shares_are_refused(const char *folder) {
    struct vgpu_limits good = unit_limits(MIB), bad = good;
    struct vgpu_usage *usage = unit_usage();
    CHECK(result_of(folder) == 0);
    bad.abi_major = VGPU_ABI_MAJOR + 1;
    unit_write(folder, "limits", &bad, sizeof bad);
    CHECK(result_of(folder) == -EPROTO);
    bad = good;
    memset(bad.device_uuid, 'x', sizeof bad.device_uuid);
    unit_write(folder, "limits", &bad, sizeof bad);
    CHECK(result_of(folder) == -EPROTO);
    unit_write(folder, "limits", &good, sizeof good - 1);
    CHECK(result_of(folder) == -EPROTO);
    unit_write(folder, "limits", &good, sizeof good);
    unit_write(folder, "usage", usage, sizeof *usage - 1);
    CHECK(result_of(folder) == -EPROTO);
    usage->slot_count--;
    unit_write(folder, "usage", usage, sizeof *usage);
    CHECK(result_of(folder) == -EPROTO);
    free(usage);
}

static void words_make_a_share_or_say_why_not(const char *folder) {
    static const char *const bad[] = {
        "A", "A=", "A=uuid", "A=uuid=x", "A=memory=5", "A=uuid=,memory=5", "A=uuid=x,memory=-5",
        "A=uuid=x,memory=5,cores=101", "A=uuid=x,memory=99999999999999999999", "A=uuid=x,memory=5,policy=fast",
        "A=uuid=x,memory=5,colour=red", "../A=uuid=x,memory=5", "=uuid=x,memory=5", "A=uuid=x,memory=0",
        "A=uuid=x,memory=5 ", "A=uuid=x,,memory=5",
        "A=uuid=x,memory=5,swap=-1", "A=uuid=x,memory=5,swap=9223372036854775808", "A=uuid=x,memory=5,onerror=exit",
    };
    char made[VGPU_PATH_SIZE], path[PATH_MAX];
    struct vgpu_region mine;
    CHECK(setenv("VGPU_SHARES_DIR", folder, 1) == 0);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(vgpu_environment_share(bad[i], made, sizeof made) == -EINVAL);
    CHECK(vgpu_environment_share("WORDS=uuid=" UNIT_UUID ",memory=1048576,cores=30,policy=burst,priority=high", made,
                                 sizeof made) == 0);
    snprintf(path, sizeof path, "%s/WORDS", folder);
    CHECK(strcmp(made, path) == 0 && vgpu_region_map(&mine, made) == 0);
    CHECK(mine.limits->memory_current_bytes == MIB && mine.limits->cores_current == 30);
    CHECK(mine.limits->compute_policy == VGPU_COMPUTE_BURST && mine.limits->priority == VGPU_PRIORITY_HIGH);
    CHECK(strcmp(mine.limits->device_uuid, UNIT_UUID) == 0 && strcmp(mine.limits->share_key, "WORDS") == 0);
    CHECK(mine.limits->flags == 0 && mine.limits->swap_bytes == 0);
    munmap(mine.usage, VGPU_USAGE_SIZE);
    munmap((void *)(uintptr_t)mine.limits, VGPU_LIMITS_SIZE);
    CHECK(vgpu_environment_share("MORE=uuid=" UNIT_UUID ",memory=1048576,swap=4096,onerror=deny", made, sizeof made) == 0);
    CHECK(vgpu_region_map(&mine, made) == 0 && mine.limits->swap_bytes == 4096);
    CHECK(mine.limits->flags == (VGPU_FLAG_OVERSUBSCRIBE | VGPU_FLAG_DENY_ON_ERROR));
    munmap(mine.usage, VGPU_USAGE_SIZE);
    munmap((void *)(uintptr_t)mine.limits, VGPU_LIMITS_SIZE);
}

static void a_budget_that_somebody_spoilt_makes_nobody_wait_for_years(const char *folder) {
    static const int64_t spoilt[] = {INT64_MIN, INT64_MIN + 1, -INT64_MAX / 2, INT64_MAX};
    static struct vgpu_device device;
    struct vgpu_limits limits = unit_limits(MIB);
    limits.cores_guaranteed = limits.cores_current = 30;
    unit_write(folder, "limits", &limits, sizeof limits);
    device.shares[0] = *region;
    device.share_count = 1;
    for (unsigned i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
        uint64_t wait = 0;
        __atomic_store_n(&region->usage->budget_ns, spoilt[i], __ATOMIC_SEQ_CST);
        while (!vgpu_budget_take(&device, 1000, &wait)) CHECK(wait <= 1000000000ull);
    }
}

int main(int count, char **words) {
    CHECK(count == 2);
    const char *root = words[1];
    char folder[PATH_MAX / 2];
    unsigned number = 0;
    mkdir(root, 0700);
    board = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED);
#define RUN(...)                                                        \
    do {                                                                \
        snprintf(folder, sizeof folder, "%s/%u", root, number++);       \
        map(folder);                                                    \
        __VA_ARGS__;                                                    \
        unmap();                                                        \
        puts(#__VA_ARGS__);                                             \
        fflush(stdout);                                                 \
    } while (0)
    RUN(takes_to_the_last_byte_and_gives_back());
    RUN(a_dead_process_is_cleared_and_its_counters_stay(folder));
    RUN(a_process_killed_amid_a_change_leaves_no_charge(folder, 3 * (int64_t)MIB));
    RUN(a_process_killed_amid_a_change_leaves_no_charge(folder, -3 * (int64_t)MIB));
    RUN(a_process_killed_amid_a_repair_leaves_an_exact_total(folder));
    RUN(a_process_killed_amid_a_recount_leaves_an_exact_total(folder));
    RUN(a_lingering_process_keeps_its_charge_until_the_driver_lets_go(folder));
    RUN(a_recount_under_our_name_that_is_not_ours_ends_at_once());
    RUN(a_stopped_recounter_holds_nobody_up_for_long(folder));
    RUN(a_process_stopped_amid_a_change_delays_the_recount_only(folder));
    RUN(closed_descriptors_make_nobody_look_dead(folder));
    RUN(a_bare_fork_is_noticed());
    RUN(with_every_slot_taken_nothing_is_granted_until_one_ends(folder));
    RUN(a_replaced_file_clears_nobody(folder));
    RUN(what_is_lent_or_paused_ends_with_the_lenders_heartbeat(folder));
    RUN(files_that_are_not_a_shares_are_refused(folder));
    RUN(words_make_a_share_or_say_why_not(folder));
    RUN(a_budget_that_somebody_spoilt_makes_nobody_wait_for_years(folder));
    return 0;
}
