/* A lock of four bytes that needs no libpthread, and that a forked child can simply zero. Never held across
 * a call into the vendor's library, so it is held for some ten nanoseconds: unlocking is a plain store, because
 * a second atomic operation would cost as much as all that the lock guards. Who comes to wait between that
 * store and the look before it is woken by nobody, and looks by himself a moment later. */
#ifndef VGPU_FUTEX_LOCK_H
#define VGPU_FUTEX_LOCK_H

#include <stdint.h>

struct vgpu_lock {
    uint32_t state; /* 0 free, 1 held, 2 held and waited for */
};

void vgpu_lock_slowly(struct vgpu_lock *lock);
void vgpu_lock_wake(struct vgpu_lock *lock);

static inline void vgpu_lock(struct vgpu_lock *lock) {
    uint32_t free = 0;
    if (__builtin_expect(!__atomic_compare_exchange_n(&lock->state, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED), 0))
        vgpu_lock_slowly(lock);
}

static inline void vgpu_unlock(struct vgpu_lock *lock) {
    uint32_t seen = __atomic_load_n(&lock->state, __ATOMIC_RELAXED);
    __atomic_store_n(&lock->state, 0, __ATOMIC_RELEASE);
    if (__builtin_expect(seen == 2, 0)) vgpu_lock_wake(lock);
}

#endif
