/* Which processes of a share live: one slot each, and one lock byte that the kernel drops when they die.
 *
 * The lock belongs to an open file description of its own, so a close() by the program's other code cannot
 * drop it (a mapping holds it too), and a forked child cannot keep it (the mapping is not inherited). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accounting.h"
#include "region.h"

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

bool vgpu_slot_lock(int file, unsigned number, bool lock) {
    struct flock request = {
        .l_type = lock ? F_WRLCK : F_UNLCK,
        .l_whence = SEEK_SET,
        .l_start = (off_t)VGPU_USAGE_LOCK_OFFSET(number),
        .l_len = 1,
    };
    return fcntl(file, F_OFD_SETLK, &request) == 0;
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

static int open_lock_file(struct vgpu_region *region) {
    int file = open(region->usage_path, O_RDWR | O_CLOEXEC);
    if (file < 0) return -errno;
    void *hold = mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (hold != MAP_FAILED) madvise(hold, 4096, MADV_DONTFORK);
    region->lock_file = file;
    return 0;
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

struct vgpu_usage_slot *vgpu_region_slot(struct vgpu_region *region) {
    struct vgpu_usage_slot *slot = ACQUIRE_LOAD(&region->slot);
    if (VGPU_LIKELY(slot != 0)) return slot;
    vgpu_lock(&region->lock);
    if (!region->slot && region->usage && (region->lock_file >= 0 || open_lock_file(region) == 0)) {
        slot = claim(region);
        if (slot) RELEASE_STORE(&region->slot, slot);
        else if (vgpu_repair_locked(region)) RELEASE_STORE(&region->slot, claim(region));
    }
    slot = region->slot;
    vgpu_unlock(&region->lock);
    if (!slot) vgpu_log(VGPU_LOG_ERROR, "%s: no process slot to be had: its allocations are refused", region->usage_path);
    else vgpu_region_repair(region);
    return slot;
}

void vgpu_region_forget_slot(struct vgpu_region *region) {
    memset(&region->lock, 0, sizeof region->lock);
    region->slot = 0;
    if (region->lock_file >= 0) close(region->lock_file);
    region->lock_file = -1;
}
