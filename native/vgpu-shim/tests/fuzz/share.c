/* A share whose files anybody may have written, used by one process: maps, takes, gives, repairs and pays for launches,
 * while bytes of both files change under it. Any input must end without a fault, an unspoiled total must stay within its
 * limit, and nobody is told to wait for longer than a launch can have cost.
 *
 * The input is a list of steps of 12 bytes: what, slot, offset, value. */
#include <errno.h>
#include <sys/mman.h>

#include "../../src/budget.h"
#include "../units/unit.h"

extern struct vgpu_region unit_region;
extern uint32_t unit_ceiling;
static struct vgpu_region *const region = &unit_region;

struct step {
    uint8_t what, slot;
    uint16_t offset;
    uint64_t value;
};
enum { PATCH_LIMITS, PATCH_HEAD, PATCH_SLOT, CUT_LIMITS, CUT_USAGE, MAP, TAKE, TAKE_PART, GIVE, REPAIR, ASK, FORGET, DRAW, PAY, STEPS };

#define LIMIT (64 * MIB)
#define LONGEST_LAUNCH_NS 3600000000000ll /* no debt is larger, so 100 times that at a limit of one percent */

static char folder[64];
static char *files[2]; /* the share's files as the world outside maps them */
static bool spoiled;   /* somebody has written into the accounts: no figure means anything any more */

static char *map_shared(const char *name, size_t size) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDWR);
    char *at = file < 0 ? MAP_FAILED : mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(at != MAP_FAILED && close(file) == 0);
    return at;
}

static void remove_share(void) {
    static const char *const names[] = {"limits", "usage"};
    char path[PATH_MAX];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *count, char ***words) {
    (void)count, (void)words;
    snprintf(folder, sizeof folder, "/tmp/vgpu-fuzz-XXXXXX");
    CHECK(mkdtemp(folder));
    unit_make_share(folder, LIMIT);
    files[0] = map_shared("limits", VGPU_LIMITS_SIZE);
    files[1] = map_shared("usage", VGPU_USAGE_SIZE);
    vgpu_process_begin();
    atexit(remove_share);
    return 0;
}

static void fresh(void) {
    struct vgpu_limits limits = unit_limits(LIMIT);
    static struct vgpu_usage *usage;
    if (!usage) usage = unit_usage();
    memcpy(files[0], &limits, sizeof limits);
    memcpy(files[1], usage, sizeof *usage);
    spoiled = false;
}

/* Nothing of the last run may bind this one: a fresh share grants its first taker all of it. */
static void check_fresh(void) {
    CHECK(vgpu_region_take(region, LIMIT, false, VGPU_KIND_BUFFER) == LIMIT);
    CHECK(region->slot == region->usage->slots);
    vgpu_region_give(region, LIMIT, VGPU_KIND_BUFFER);
}

/* Ends this process's life in the share, as its death would: descriptor and mapping go, and the lock with them. */
static void leave(void) {
    if (region->held) munmap(region->held, 4096);
    vgpu_region_forget_slot(region);
}

static void unmap(void) {
    if (region->usage) munmap(region->usage, VGPU_USAGE_SIZE);
    if (region->limits) munmap((void *)(uintptr_t)region->limits, VGPU_LIMITS_SIZE);
    leave();
    region->usage = 0;
    region->limits = 0;
}

static void patch(char *file, size_t size, size_t offset, uint64_t value) {
    offset = (offset & ~7ul) % size;
    memcpy(file + offset, &value, sizeof value);
}

/* A file of another size, as mapping finds it; it has its own size again before anything is read through a mapping,
 * because what the kernel does to who reads beyond the end is no question for a fuzzer. */
static void map_with_size(const char *name, size_t size, uint64_t cut) {
    char path[PATH_MAX];
    struct vgpu_region other;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK(truncate(path, (off_t)(cut % (2 * size))) == 0);
    int result = vgpu_region_map(&other, folder);
    CHECK(truncate(path, (off_t)size) == 0);
    CHECK(result == 0 || result == -EPROTO);
    if (other.usage) munmap(other.usage, VGPU_USAGE_SIZE);
    if (other.limits) munmap((void *)(uintptr_t)other.limits, VGPU_LIMITS_SIZE);
    spoiled = true;
}

static struct vgpu_device *card(void) {
    static struct vgpu_device device;
    device.shares[0] = *region;
    device.share_count = 1;
    return &device;
}

static void draw(const struct step *step) {
    uint64_t wait = 0;
    unit_ceiling = step->slot % 101;
    if (!vgpu_budget_take(card(), (int64_t)(step->value % LONGEST_LAUNCH_NS), &wait))
        CHECK(wait <= 100 * (uint64_t)(LONGEST_LAUNCH_NS + 1));
}

static void run(const struct step *step, uint64_t held[4]) {
    bool mapped = region->usage != 0;
    spoiled |= step->what % STEPS <= PATCH_SLOT;
    switch (step->what % STEPS) {
    case PATCH_LIMITS: patch(files[0], VGPU_LIMITS_SIZE, step->offset, step->value); break;
    case PATCH_HEAD: patch(files[1], VGPU_USAGE_HEADER_SIZE, step->offset % 256, step->value); break;
    case PATCH_SLOT:
        patch(files[1] + VGPU_USAGE_HEADER_SIZE + VGPU_USAGE_SLOT_SIZE * step->slot, VGPU_USAGE_SLOT_SIZE, step->offset,
              step->value);
        break;
    case CUT_LIMITS: map_with_size("limits", VGPU_LIMITS_SIZE, step->value); break;
    case CUT_USAGE: map_with_size("usage", VGPU_USAGE_SIZE, step->value); break;
    case MAP:
        unmap();
        memset(held, 0, 4 * sizeof *held);
        if (vgpu_region_map(region, folder) != 0) unmap();
        break;
    case TAKE:
    case TAKE_PART:
        if (mapped) held[step->slot % 4] += vgpu_region_take(region, step->value, step->what % STEPS == TAKE_PART,
                                                             (enum vgpu_kind)(step->slot % 4));
        break;
    case GIVE:
        if (mapped) vgpu_region_give(region, held[step->slot % 4], (enum vgpu_kind)(step->slot % 4));
        held[step->slot % 4] = 0;
        break;
    case REPAIR:
        if (mapped) vgpu_region_repair(region);
        break;
    case ASK:
        if (mapped && !spoiled) CHECK(vgpu_region_memory_limit(region) == LIMIT && !vgpu_region_is_paused(region));
        if (mapped) CHECK(vgpu_region_cores_limit(region) < 100);
        break;
    case DRAW:
        if (mapped) draw(step);
        break;
    case PAY:
        if (mapped) vgpu_budget_charge(card(), (int64_t)step->value % LONGEST_LAUNCH_NS);
        break;
    default: /* FORGET */
        if (mapped) leave();
        memset(held, 0, 4 * sizeof *held);
    }
    if (region->usage && !spoiled) CHECK(region->usage->charged_bytes <= LIMIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    uint64_t held[4] = {0};
    fresh();
    CHECK(vgpu_region_map(region, folder) == 0);
    check_fresh();
    for (; size >= 12; bytes += 12, size -= 12) {
        struct step step = {.what = bytes[0], .slot = bytes[1]};
        memcpy(&step.offset, bytes + 2, sizeof step.offset);
        memcpy(&step.value, bytes + 4, sizeof step.value);
        run(&step, held);
    }
    unmap();
    return 0;
}
