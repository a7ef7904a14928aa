/* What the unit programs share: checks that say where they fail, a share's two files, and children that are told
 * what to do. They are linked with the shim's own sources, without a vendor's library, so that they also run
 * under sanitizers and under an emulator of the other architecture. */
#ifndef UNIT_H
#define UNIT_H

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/accounting.h"
#include "../../src/background.h"
#include "../../src/shares.h"

#define MIB (1ull << 20)
#define UNIT_UUID "GPU-11111111-2222-3333-4444-555555555555"

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                   \
        }                                                                               \
    } while (0)

static inline void unit_write(const char *folder, const char *name, const void *content, size_t size) {
    char path[PATH_MAX];
    CHECK(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 && write(file, content, size) == (ssize_t)size && close(file) == 0);
}

static inline struct vgpu_limits unit_limits(uint64_t memory) {
    struct vgpu_limits limits;
    memset(&limits, 0, sizeof limits);
    limits.magic = VGPU_LIMITS_MAGIC;
    limits.abi_major = VGPU_ABI_MAJOR;
    limits.size = VGPU_LIMITS_SIZE;
    snprintf(limits.device_uuid, sizeof limits.device_uuid, "%s", UNIT_UUID);
    limits.memory_guaranteed_bytes = limits.memory_current_bytes = memory;
    return limits;
}

static inline struct vgpu_usage *unit_usage(void) {
    struct vgpu_usage *usage = calloc(1, sizeof *usage);
    CHECK(usage);
    usage->magic = VGPU_USAGE_MAGIC;
    usage->abi_major = VGPU_ABI_MAJOR;
    usage->size = VGPU_USAGE_SIZE;
    usage->header_size = VGPU_USAGE_HEADER_SIZE;
    usage->slot_size = VGPU_USAGE_SLOT_SIZE;
    usage->slot_count = VGPU_USAGE_SLOTS;
    return usage;
}

/* Makes `folder` a share of `memory` bytes that nobody uses. */
static inline void unit_make_share(const char *folder, uint64_t memory) {
    struct vgpu_limits limits = unit_limits(memory);
    struct vgpu_usage *usage = unit_usage();
    mkdir(folder, 0700);
    unit_write(folder, "limits", &limits, sizeof limits);
    unit_write(folder, "usage", usage, sizeof *usage);
    free(usage);
}

/* Runs `play` in a child with a share mapped anew; it ends with the status that `play` returns. */
static inline pid_t unit_child(const char *folder, int (*play)(struct vgpu_region *)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child) return child;
    static struct vgpu_region region;
    CHECK(vgpu_region_map(&region, folder) == 0);
    _exit(play(&region));
}

static inline void unit_kill(pid_t child) {
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, 0, 0) == child);
}

static inline void unit_await_exit(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void unit_await(const uint32_t *word, uint32_t value) {
    uint64_t until = vgpu_now_ns() + 20000000000ull;
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) {
        CHECK(vgpu_now_ns() < until);
        usleep(200);
    }
}

#endif
