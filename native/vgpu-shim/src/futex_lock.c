/* Waiting for a lock: a few looks, since it is held for some ten nanoseconds, and then sleep. */
#include "futex_lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vgpu.h"

#define LOOKS 64u
#define MISSED_NS 1000000 /* how long a thread sleeps that nobody wakes */

VGPU_SELDOM void vgpu_lock_slowly(struct vgpu_lock *lock) {
    struct timespec missed = {0, MISSED_NS};
    for (unsigned look = 0; look < LOOKS; look++) {
        uint32_t free = 0;
        if (RELAXED_LOAD(&lock->state)) continue;
        if (__atomic_compare_exchange_n(&lock->state, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    }
    while (__atomic_exchange_n(&lock->state, 2, __ATOMIC_ACQUIRE) != 0)
        syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, &missed, 0, 0);
}

VGPU_SELDOM void vgpu_lock_wake(struct vgpu_lock *lock) { syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0); }
