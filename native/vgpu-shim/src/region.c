/* Maps a share and says what its limits are now. The limits file is trusted (mounted read-only); the usage
 * file is the tenant's own, so its head is checked and no index or size is ever taken from it. */
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t vgpu_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The kernel's own call: glibc has had a symbol for it since 2.33 only. */
bool vgpu_file_status(int file, struct stat *status) { return syscall(SYS_fstat, file, status) == 0; }

static void *map_file(const char *path, int flags, int protection, size_t size, struct stat *status) {
    int file = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    void *at = MAP_FAILED;
    if (file < 0) return 0;
    if (vgpu_file_status(file, status) && S_ISREG(status->st_mode) && status->st_size >= (off_t)size)
        at = mmap(0, size, protection, MAP_SHARED, file, 0);
    else errno = EPROTO;
    int saved = errno;
    close(file);
    errno = saved;
    return at == MAP_FAILED ? 0 : at;
}

static bool limits_are_valid(const struct vgpu_limits *limits) {
    return limits->magic == VGPU_LIMITS_MAGIC && limits->abi_major == VGPU_ABI_MAJOR &&
           limits->size >= VGPU_LIMITS_SIZE && memchr(limits->device_uuid, 0, VGPU_UUID_SIZE) &&
           limits->device_uuid[0];
}

static bool usage_is_valid(const struct vgpu_usage *usage) {
    return usage->magic == VGPU_USAGE_MAGIC && usage->abi_major == VGPU_ABI_MAJOR &&
           usage->size == VGPU_USAGE_SIZE && usage->header_size == VGPU_USAGE_HEADER_SIZE &&
           usage->slot_size == VGPU_USAGE_SLOT_SIZE && usage->slot_count == VGPU_USAGE_SLOTS;
}

static int map_usage(struct vgpu_region *region) {
    struct stat status;
    struct vgpu_usage *usage =
        map_file(region->usage_path, O_RDWR, PROT_READ | PROT_WRITE, VGPU_USAGE_SIZE, &status);
    if (!usage) return -errno;
    if (!usage_is_valid(usage)) {
        munmap(usage, VGPU_USAGE_SIZE);
        return -EPROTO;
    }
    region->usage = usage;
    region->file_system = status.st_dev;
    region->inode = status.st_ino;
    return 0;
}

int vgpu_region_map(struct vgpu_region *region, const char *folder) {
    char path[VGPU_PATH_SIZE];
    struct stat status;
    memset(region, 0, sizeof *region);
    region->lock_file = region->repair_file = -1;
    if (snprintf(path, sizeof path, "%s/limits", folder) >= (int)sizeof path) return -ENAMETOOLONG;
    if (snprintf(region->usage_path, sizeof region->usage_path, "%s/usage", folder) >= (int)sizeof path)
        return -ENAMETOOLONG;
    void *limits = map_file(path, O_RDONLY, PROT_READ, VGPU_LIMITS_SIZE, &status);
    if (!limits) return -errno;
    if (!limits_are_valid(limits)) {
        munmap(limits, VGPU_LIMITS_SIZE);
        return -EPROTO;
    }
    region->limits = limits; /* stays even if the usage file cannot be mapped: it says whether to refuse then */
    return map_usage(region);
}

/* True when nobody has signed for what is lent above the guarantee for too long. */
static bool only_guaranteed(const struct vgpu_limits *limits) {
    uint64_t timeout = RELAXED_LOAD(&limits->heartbeat_timeout_ns);
    if (VGPU_LIKELY(timeout == 0)) return false;
    uint64_t beat = RELAXED_LOAD(&limits->heartbeat_ns), now = vgpu_now_ns();
    return now > beat && now - beat > timeout;
}

bool vgpu_region_is_paused(const struct vgpu_region *region) {
    return VGPU_UNLIKELY(RELAXED_LOAD(&region->limits->gate) == VGPU_GATE_PAUSED) && !only_guaranteed(region->limits);
}

uint64_t vgpu_region_memory_limit(const struct vgpu_region *region) {
    const struct vgpu_limits *limits = region->limits;
    return only_guaranteed(limits) ? RELAXED_LOAD(&limits->memory_guaranteed_bytes)
                                   : RELAXED_LOAD(&limits->memory_current_bytes);
}

uint32_t vgpu_region_cores_limit(const struct vgpu_region *region) {
    const struct vgpu_limits *limits = region->limits;
    if (RELAXED_LOAD(&limits->compute_policy) == VGPU_COMPUTE_SHARED) return 0;
    uint32_t cores = only_guaranteed(limits) ? RELAXED_LOAD(&limits->cores_guaranteed)
                                             : RELAXED_LOAD(&limits->cores_current);
    return cores >= 100 ? 0 : cores;
}
