/* What every part of the shim may rely on: the vendor's types, the ABI, and how hooks are written. */
#ifndef VGPU_H
#define VGPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/vgpu_abi.h"
#include "functions.h"
#include "generated/vendor.h"
#include "log.h"

#define VGPU_EXPORT __attribute__((visibility("default")))
#define VGPU_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define VGPU_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* What is seldom called: kept out of its callers, so that they need fewer registers, and save and restore none. */
#define VGPU_SELDOM __attribute__((noinline, cold))

/* The vendor's function itself, typed: REAL(cuMemAlloc_v2)(&address, size). */
#define REAL(name) ((vgpu_fn_##name)vgpu_real(VGPU_##name))

/* The same where several symbols share one body, and `id` says which was called. */
#define REAL_AS(name, id) ((vgpu_fn_##name)vgpu_real(id))

/* A call in whose place the callee returns to our caller, which it may ask for. A compiler that cannot promise it
 * (sanitized builds) makes a common call. */
#if __has_attribute(musttail)
#define VGPU_TAIL_CALL __attribute__((musttail)) return
#else
#define VGPU_TAIL_CALL return
#endif

#define RELAXED_LOAD(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)
#define RELAXED_STORE(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELAXED)
#define ACQUIRE_LOAD(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define RELEASE_STORE(pointer, value) __atomic_store_n((pointer), (value), __ATOMIC_RELEASE)

#endif
