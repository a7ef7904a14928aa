/* A lock of four bytes that needs no libpthread, and that a forked child can simply zero. Never held across
 * a call into the vendor's library. */
#ifndef VGPU_FUTEX_LOCK_H
#define VGPU_FUTEX_LOCK_H

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct vgpu_lock {
    uint32_t state; /* 0 free, 1 held, 2 held and waited for */
};

static inline void vgpu_lock(struct vgpu_lock *lock) {
    uint32_t seen = 0;
    if (__atomic_compare_exchange_n(&lock->state, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    while (__atomic_exchange_n(&lock->state, 2, __ATOMIC_ACQUIRE) != 0)
        syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, 0, 0, 0);
}

static inline void vgpu_unlock(struct vgpu_lock *lock) {
    if (__atomic_exchange_n(&lock->state, 0, __ATOMIC_RELEASE) == 2)
        syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

#endif
