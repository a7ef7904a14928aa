/*
 * The two files through which a share reaches a container: `limits` and `usage`.
 *
 * This header is the only definition of both. The C shim includes it; the Python mirror
 * (drivers/shim_abi.py) is generated from it and a test fails when the two part.
 *
 * ABI rules
 * - A container that runs today may run for months and keeps the library it started with, so a
 *   layout, once published, never moves: fields are added in reserved space only, and MINOR grows.
 *   A change that an older reader would misread takes a new MAJOR; readers refuse a MAJOR they do not know.
 * - Fixed widths, natural alignment, no padding that the compiler chooses, little endian (both
 *   architectures that we build for are). All offsets are asserted below.
 * - Both files are exactly as large as their `size` field says; a reader refuses a shorter file.
 *
 * Trust
 * - `limits` is written by the node plugin and mounted read-only: the shim trusts it.
 * - `usage` is writable by the tenant: whoever reads it from outside the container treats every
 *   byte as hostile. It holds the accounting of ONE share, so a tenant can only hurt himself.
 */
#ifndef VGPU_ABI_H
#define VGPU_ABI_H

#include <stddef.h>
#include <stdint.h>

#define VGPU_ABI_MAJOR 1u
#define VGPU_ABI_MINOR 0u

#define VGPU_LIMITS_MAGIC 0x4d494c55504756ull /* "VGPULIM" */
#define VGPU_USAGE_MAGIC 0x41535555504756ull  /* "VGPUUSA" */

#define VGPU_LIMITS_SIZE 4096u
#define VGPU_USAGE_HEADER_SIZE 4096u
#define VGPU_USAGE_SLOT_SIZE 256u
#define VGPU_USAGE_SLOTS 1008u
#define VGPU_USAGE_SIZE 262144u

#define VGPU_UUID_SIZE 96u
#define VGPU_PCI_BUS_ID_SIZE 32u
#define VGPU_SHARE_KEY_SIZE 64u

/* vgpu_limits.compute_policy */
#define VGPU_COMPUTE_FIXED 0u  /* never above cores_current */
#define VGPU_COMPUTE_BURST 1u  /* idle time of the card may be used, and is given back */
#define VGPU_COMPUTE_SHARED 2u /* no limit */

/* vgpu_limits.priority */
#define VGPU_PRIORITY_LOW 0u
#define VGPU_PRIORITY_HIGH 1u

/* vgpu_limits.gate */
#define VGPU_GATE_OPEN 0u
#define VGPU_GATE_PAUSED 1u /* launches and allocations wait until it opens */

/* vgpu_limits.flags */
#define VGPU_FLAG_OVERSUBSCRIBE 0x1u /* memory beyond the card's may live in host memory, up to swap_bytes */
#define VGPU_FLAG_DENY_ON_ERROR 0x2u /* a share whose usage file cannot be used refuses, instead of passing through */

/* vgpu_limits.log_level */
#define VGPU_LOG_OFF 0u
#define VGPU_LOG_ERROR 1u
#define VGPU_LOG_WARNING 2u
#define VGPU_LOG_INFO 3u
#define VGPU_LOG_DEBUG 4u

/*
 * One share's limits. A writer makes `sequence` odd, changes fields in place, and makes it even
 * again (a rename would not reach a bind mount); a reader that sees an odd or a changed sequence
 * reads again. Times are CLOCK_MONOTONIC nanoseconds, the same in every container of a host.
 */
struct vgpu_limits {
    uint64_t magic;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t size;     /* VGPU_LIMITS_SIZE */
    uint32_t flags;    /* VGPU_FLAG_* */
    uint64_t sequence; /* even: stable; odd: being written */

    char device_uuid[VGPU_UUID_SIZE];           /* NUL-terminated, as the vendor library spells it */
    char pci_bus_id[VGPU_PCI_BUS_ID_SIZE];      /* NUL-terminated, "0000:3b:00.0"; empty if unknown */
    char share_key[VGPU_SHARE_KEY_SIZE];        /* NUL-terminated; also the folder's name */

    uint64_t device_memory_bytes; /* the whole card's */
    uint32_t device_cores;        /* the whole card's, percent: 100 */
    uint32_t device_index;        /* the card's index on the node; for people, never a key */

    uint64_t memory_guaranteed_bytes; /* what the claim was allocated */
    uint64_t memory_current_bytes;    /* what the shim enforces now */
    uint64_t swap_bytes;              /* host memory that the share may use beyond the card's */
    uint32_t cores_guaranteed;        /* percent, 0: no reservation */
    uint32_t cores_current;           /* percent that the shim enforces now; 0 or >=100: no cap */
    uint32_t compute_policy;          /* VGPU_COMPUTE_* */
    uint32_t priority;                /* VGPU_PRIORITY_* */
    uint32_t gate;                    /* VGPU_GATE_* */
    uint32_t log_level;               /* VGPU_LOG_* */

    uint64_t heartbeat_ns;         /* last sign of life of an arbiter that lends above the guaranteed */
    uint64_t heartbeat_timeout_ns; /* 0: nobody lends; otherwise older than this: fall back to *_guaranteed */

    uint8_t reserved[VGPU_LIMITS_SIZE - 304];
};

/* vgpu_usage_slot.state */
#define VGPU_SLOT_FREE 0u
#define VGPU_SLOT_CLAIMED 1u /* being filled in, or in use: the owner holds the slot's lock byte */

/*
 * One process of the share. A slot never moves. Its owner holds an open-file-description lock
 * (F_OFD_SETLK, write) on the byte at VGPU_USAGE_LOCK_OFFSET(slot) of the usage file for as long
 * as it lives: a slot that is CLAIMED and whose byte can be locked by another is dead, and its
 * charges go back to the share. pid and start_time are as the process's own PID namespace
 * sees them, and only help people.
 *
 * Memory figures are bytes of device memory and sum up to `charged_bytes`, save for `resident_bytes`
 * (the part of managed memory that is on the card now), which is a measurement.
 */
struct vgpu_usage_slot {
    uint32_t state; /* VGPU_SLOT_* ; atomic */
    int32_t pid;
    uint64_t start_time; /* field 22 of /proc/<pid>/stat, clock ticks since boot */

    uint64_t charged_bytes; /* atomic; this process's part of vgpu_usage.charged_bytes */
    uint64_t context_bytes;
    uint64_t module_bytes;
    uint64_t buffer_bytes;
    uint64_t managed_bytes;
    uint64_t resident_bytes;
    uint64_t swap_bytes; /* host memory that stands in for device memory; not part of charged_bytes */

    uint64_t busy_ns;        /* device time that its launches took, as the shim estimates it */
    uint64_t throttled_ns;   /* time that its threads waited for budget */
    uint64_t launches;
    uint64_t last_launch_ns; /* CLOCK_MONOTONIC */
    uint64_t refused;        /* allocations refused by the limit */
    uint64_t refused_bytes;

    /*
     * atomic; not 0 while this process changes the share's total. Not 0 in a dead process: it was killed between the
     * total and its own figures, and the total must be counted anew from the slots.
     */
    uint32_t operations;

    uint32_t nvml_pid;      /* by which NVML knows the process: the host's id, in a container; 0: not known */
    uint32_t pid_namespace; /* inode number of the namespace that `pid` is of; 0: not known */

    uint8_t reserved[VGPU_USAGE_SLOT_SIZE - 132];
};

/* The accounting of one share, made in full size and zeroed (but for its head) by the node plugin. */
struct vgpu_usage {
    uint64_t magic;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t size;        /* VGPU_USAGE_SIZE */
    uint32_t header_size; /* VGPU_USAGE_HEADER_SIZE: where the slots begin */
    uint32_t slot_size;   /* VGPU_USAGE_SLOT_SIZE */
    uint32_t slot_count;  /* VGPU_USAGE_SLOTS */
    char share_key[VGPU_SHARE_KEY_SIZE];

    /* Memory: a reservation is one compare-and-swap on charged_bytes, so that it never exceeds the limit. */
    uint64_t charged_bytes; /* atomic */
    uint64_t peak_bytes;    /* atomic, highest charged_bytes seen */

    /* Compute: one budget for all processes of the share. */
    int64_t budget_ns;         /* atomic; device time that may be spent; negative: overdrawn */
    uint64_t budget_filled_ns; /* atomic; CLOCK_MONOTONIC up to which the budget has been filled */

    /* Sums over processes that have ended, so that the counters of a share never fall. */
    uint64_t ended_busy_ns;
    uint64_t ended_throttled_ns;
    uint64_t ended_launches;
    uint64_t ended_refused;
    uint64_t ended_refused_bytes;

    /* Repair: while somebody counts the total anew from the slots, no change of it begins. */
    uint32_t recount_owner; /* atomic; slot number + 1 of the process that counts; 0: nobody */
    uint32_t recount_stale; /* atomic; 1: dead slots were cleared and charged_bytes still holds their charges */

    /* atomic; what one context of this share took at most: reserved before the next is made; 0: none was made yet */
    uint64_t largest_context_bytes;

    uint8_t reserved[VGPU_USAGE_HEADER_SIZE - 184];

    struct vgpu_usage_slot slots[VGPU_USAGE_SLOTS];
};

/* Lock bytes lie beyond the end of the file: locking them never collides with I/O on it. */
#define VGPU_USAGE_LOCK_OFFSET(slot) ((uint64_t)VGPU_USAGE_SIZE + (uint64_t)(slot))

#ifdef __cplusplus
#define VGPU_ABI_ASSERT static_assert
#else
#define VGPU_ABI_ASSERT _Static_assert
#endif

VGPU_ABI_ASSERT(sizeof(struct vgpu_limits) == VGPU_LIMITS_SIZE, "limits is one page");
VGPU_ABI_ASSERT(offsetof(struct vgpu_limits, reserved) == 304, "limits: published fields do not move");
VGPU_ABI_ASSERT(sizeof(struct vgpu_usage_slot) == VGPU_USAGE_SLOT_SIZE, "a slot is 256 bytes");
VGPU_ABI_ASSERT(offsetof(struct vgpu_usage_slot, reserved) == 132, "slot: published fields do not move");
VGPU_ABI_ASSERT(offsetof(struct vgpu_usage, reserved) == 184, "usage: published fields do not move");
VGPU_ABI_ASSERT(offsetof(struct vgpu_usage, slots) == VGPU_USAGE_HEADER_SIZE, "slots follow the header");
VGPU_ABI_ASSERT(sizeof(struct vgpu_usage) == VGPU_USAGE_SIZE, "usage is 256 KiB");

#endif
