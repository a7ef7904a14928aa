/* Which processes of a share live: one slot each, and one lock byte that the kernel drops when they die.
 *
 * The lock belongs to an open file description of its own, so a close() by the program's other code cannot
 * drop it (a mapping holds it too), and a forked child cannot keep it (the mapping is not inherited). The
 * descriptor stays open beside the mapping, because a dying process loses its mappings before its files, and
 * the driver's memory goes with the driver's files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "accounting.h"
#include "background.h"
#include "region.h"

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#define HELD_SIZE 4096

static uint32_t unwiped_mark = 1; /* where the kernel wipes no pages, only the C library tells of a fork */
uint32_t *vgpu_process_mark = &unwiped_mark;

void vgpu_process_begin(void) {
    if (vgpu_process_mark == &unwiped_mark) {
        void *page = mmap(0, HELD_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return;
        if (madvise(page, HELD_SIZE, MADV_WIPEONFORK) == 0) vgpu_process_mark = page;
        else munmap(page, HELD_SIZE);
    }
    __atomic_store_n(vgpu_process_mark, 1, __ATOMIC_RELAXED);
}

bool vgpu_slot_lock(int file, unsigned number, bool lock) {
    struct flock request = {
        .l_type = lock ? F_WRLCK : F_UNLCK,
        .l_whence = SEEK_SET,
        .l_start = (off_t)VGPU_USAGE_LOCK_OFFSET(number),
        .l_len = 1,
    };
    return fcntl(file, F_OFD_SETLK, &request) == 0;
}

bool vgpu_usage_is(const struct vgpu_region *region, int file) {
    struct stat status;
    return file >= 0 && vgpu_file_status(file, &status) && status.st_dev == region->file_system &&
           status.st_ino == region->inode;
}

int vgpu_usage_open(const struct vgpu_region *region) {
    int file = open(region->usage_path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0 || vgpu_usage_is(region, file)) return file;
    close(file);
    errno = ESTALE;
    return -1;
}

/* Field 22 of /proc/self/stat; it stands behind the command, which may hold spaces and brackets. */
static uint64_t own_start_time(void) {
    char text[1024];
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    if (length <= 0) return 0;
    text[length] = 0;
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at, 0, 10) : 0;
}

static bool open_lock_file(struct vgpu_region *region) {
    int file = vgpu_usage_open(region);
    if (file < 0) return false;
    void *held = mmap(0, HELD_SIZE, PROT_READ, MAP_SHARED, file, 0);
    if (held != MAP_FAILED) madvise(held, HELD_SIZE, MADV_DONTFORK);
    region->held = held == MAP_FAILED ? 0 : held;
    region->lock_file = file;
    return true;
}

static void fill_slot(struct vgpu_usage_slot *slot) {
    memset((char *)slot + sizeof slot->state, 0, sizeof *slot - sizeof slot->state);
    slot->pid = (int32_t)getpid();
    slot->start_time = own_start_time();
    RELEASE_STORE(&slot->state, VGPU_SLOT_CLAIMED);
}

static struct vgpu_usage_slot *claim(struct vgpu_region *region) {
    for (unsigned number = 0; number < VGPU_USAGE_SLOTS; number++) {
        struct vgpu_usage_slot *slot = &region->usage->slots[number];
        if (ACQUIRE_LOAD(&slot->state) != VGPU_SLOT_FREE) continue;
        if (!vgpu_slot_lock(region->lock_file, number, true)) continue;
        if (ACQUIRE_LOAD(&slot->state) == VGPU_SLOT_FREE) {
            fill_slot(slot);
            return slot;
        }
        vgpu_slot_lock(region->lock_file, number, false);
    }
    return 0;
}

static struct vgpu_usage_slot *claim_or_repair(struct vgpu_region *region) {
    if (!region->usage || !(vgpu_usage_is(region, region->lock_file) || open_lock_file(region))) return 0;
    struct vgpu_usage_slot *slot = claim(region);
    return slot || !vgpu_repair_locked(region) ? slot : claim(region);
}

static struct vgpu_usage_slot *first_slot(struct vgpu_region *region) {
    vgpu_lock(&region->lock);
    if (!region->slot) RELEASE_STORE(&region->slot, claim_or_repair(region));
    struct vgpu_usage_slot *slot = region->slot;
    vgpu_unlock(&region->lock);
    if (slot) vgpu_region_repair(region);
    else vgpu_log(VGPU_LOG_ERROR, "%s: no process slot to be had: its allocations are refused", region->usage_path);
    return slot;
}

VGPU_SELDOM struct vgpu_usage_slot *vgpu_region_first_slot(struct vgpu_region *region) {
    if (!vgpu_same_process()) vgpu_forget_parent();
    return first_slot(region);
}

static void close_if_ours(const struct vgpu_region *region, int *file) {
    if (vgpu_usage_is(region, *file)) close(*file);
    *file = -1;
}

void vgpu_region_forget_slot(struct vgpu_region *region) {
    memset(&region->lock, 0, sizeof region->lock);
    memset(&region->change_lock, 0, sizeof region->change_lock);
    region->slot = 0;
    region->held = 0;
    close_if_ours(region, &region->lock_file);
    close_if_ours(region, &region->repair_file);
}
