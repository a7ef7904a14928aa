/*
 * Attaching to the shared state, process slots, and who is alive.
 *
 * A slot is held by a POSIX record lock on one byte of the file: the kernel drops it when the process
 * dies, whatever the signal, and F_GETLK tells everybody else both that and the owner's pid in the
 * asker's own PID namespace. Such a lock is also dropped when the process closes ANY descriptor of the
 * file, so descriptors here are opened once and never closed.
 */
#include "simgpu_core.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

struct simgpu_state *simgpu;
int simgpu_slot = SIMGPU_NO_SLOT;
bool simgpu_counting_only;
static int state_fd = -1;
static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;

static void forget_slot_in_child(void) {
    simgpu_slot = SIMGPU_NO_SLOT;
    pthread_mutex_init(&attach_lock, NULL);
    simgpu_forget_reaping();
}

static int map_state(void) {
    const char *path = getenv("SIMGPU_STATE");
    int fd = open(path && *path ? path : "/run/simgpu/state", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat facts;
    if (fstat(fd, &facts) != 0 || (uint64_t)facts.st_size < sizeof(struct simgpu_state))
        return -EPROTO;
    void *base = mmap(NULL, sizeof(struct simgpu_state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    struct simgpu_state *state = base;
    if (state->magic != SIMGPU_MAGIC || state->layout != SIMGPU_LAYOUT || state->size != sizeof(*state)) {
        munmap(base, sizeof(*state));
        return -EPROTO;
    }
    const char *mode = getenv("SIMGPU_TIMELINE");
    simgpu_counting_only = mode && strcmp(mode, "off") == 0;
    state_fd = fd;
    simgpu = state;
    return pthread_atfork(NULL, NULL, forget_slot_in_child) ? -ENOMEM : 0;
}

int simgpu_attach(void) {
    pthread_mutex_lock(&attach_lock);
    int result = simgpu ? 0 : map_state();
    pthread_mutex_unlock(&attach_lock);
    return result;
}

static struct flock slot_lock(int slot, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = SIMGPU_LOCK_BASE + slot, .l_len = 1};
    return lock;
}

/* A process's own locks never show in F_GETLK, and it may hold one through the other library. */
static uint64_t own_identity(void) {
    uint64_t random = 0;
    memcpy(&random, (const void *)getauxval(AT_RANDOM), sizeof random);
    return random ^ (uint64_t)getpid();
}

bool simgpu_slot_lives(int slot, pid_t *pid) {
    if (simgpu->slots[slot].identity == own_identity()) {
        *pid = getpid();
        return true;
    }
    struct flock lock = slot_lock(slot, F_WRLCK);
    if (fcntl(state_fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK)
        return false;
    if (lock.l_pid == -1)
        return false; /* no process holds it, but somebody who clears up after one */
    *pid = lock.l_pid > 0 ? lock.l_pid : 0;
    return true;
}

static bool own_slot(int slot) {
    struct flock lock = slot_lock(slot, F_WRLCK);
    return fcntl(state_fd, F_SETLK, &lock) == 0;
}

static void disown_slot(int slot) {
    struct flock lock = slot_lock(slot, F_UNLCK);
    fcntl(state_fd, F_SETLK, &lock);
}

/*
 * Clearing up takes a lock of the open file description: the two libraries of one process, and its threads,
 * exclude each other by it, where a lock of the process would let both in.
 */
bool simgpu_lock_slot(int slot) {
    struct flock lock = slot_lock(slot, F_WRLCK);
    return fcntl(state_fd, F_OFD_SETLK, &lock) == 0;
}

void simgpu_unlock_slot(int slot) {
    struct flock lock = slot_lock(slot, F_UNLCK);
    fcntl(state_fd, F_OFD_SETLK, &lock);
}

static void clear_accounts(struct simgpu_slot *slot) {
    for (uint64_t card = 0; card < simgpu->card_count; card++) {
        struct simgpu_account *account = &slot->accounts[card];
        account->bytes = account->peak = account->contexts = account->launches = 0;
        account->busy = account->last_end = account->stretches = 0;
    }
}

static int claim_free_slot(void) {
    for (int number = 0; number < SIMGPU_MAX_SLOTS; number++) {
        struct simgpu_slot *slot = &simgpu->slots[number];
        if (slot->taken || !own_slot(number))
            continue;
        if (slot->taken) { /* another process came first and has died since: the reaper's business */
            disown_slot(number);
            continue;
        }
        clear_accounts(slot);
        slot->pid = (uint64_t)getpid();
        slot->identity = own_identity();
        slot->started = simgpu_now();
        slot->ended = 0;
        slot->generation++;
        slot->taken = 1;
        simgpu_slot = number;
        return 0;
    }
    return -ENOSPC;
}

int simgpu_take_slot(void) {
    pthread_mutex_lock(&attach_lock);
    int result = 0;
    if (simgpu_slot == SIMGPU_NO_SLOT) {
        simgpu_reap();
        result = claim_free_slot();
    }
    pthread_mutex_unlock(&attach_lock);
    return result;
}

void *simgpu_share(uint64_t bytes, void *at, uint64_t *offset) {
    uint64_t base = (sizeof(struct simgpu_state) + 0xfffff) & ~0xfffffull;
    uint64_t room = (bytes + 0xfff) & ~0xfffull;
    *offset = base + atomic_fetch_add(&simgpu->shared_tail, room);
    /* The last byte alone: the file grows, sparse, and can never be cut by a slower process. */
    if (posix_fallocate(state_fd, (off_t)(*offset + room - 1), 1) != 0)
        return NULL;
    int flags = MAP_SHARED | (at ? MAP_FIXED : 0);
    void *memory = mmap(at, room, PROT_READ | PROT_WRITE, flags, state_fd, (off_t)*offset);
    return memory == MAP_FAILED ? NULL : memory;
}

void *simgpu_map_shared(uint64_t offset, uint64_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, (off_t)offset);
    return memory == MAP_FAILED ? NULL : memory;
}

void simgpu_unshare(uint64_t offset, uint64_t bytes) {
    fallocate(state_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
}
