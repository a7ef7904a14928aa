/*
 * The shared state: what the hardware and the kernel driver would remember.
 *
 * Every process that uses a simulated card maps this one file, whatever its container, so this layout
 * is the contract between both libraries and simgpuctl.py (which mirrors it with ctypes; a test
 * compares the offsets). All numbers are 64 bits wide so that no compiler or reader can disagree.
 */
#ifndef SIMGPU_STATE_H
#define SIMGPU_STATE_H

#include <stdatomic.h>
#include <stdint.h>

#define SIMGPU_MAGIC 0x3155504753494d53ull
#define SIMGPU_LAYOUT 2
#define SIMGPU_MAX_CARDS 16
#define SIMGPU_MAX_SLOTS 128
#define SIMGPU_MAX_FAULTS 32
#define SIMGPU_MAX_EVENTS 64
#define SIMGPU_TRACE 256
#define SIMGPU_TEXT 96
/* One lock byte per slot, far behind the end of the file: see state.c. */
#define SIMGPU_LOCK_BASE (1ll << 40)

typedef _Atomic uint64_t simgpu_u64;

/* A planned failure: the `countdown`-th next call of `function` returns `code`, `repeat` times. */
struct simgpu_fault {
    char function[SIMGPU_TEXT];
    simgpu_u64 active;
    simgpu_u64 countdown;
    simgpu_u64 repeat;
    simgpu_u64 code;
    simgpu_u64 hits;
};

/* An asynchronous event of a card, as the kernel log would show it; `number` counts from 1. */
struct simgpu_event {
    simgpu_u64 number;
    simgpu_u64 card;
    simgpu_u64 type; /* an nvmlEventType bit */
    simgpu_u64 code; /* the XID */
};

/* What a card is; written once by simgpuctl, in bytes, MHz, milliwatts. */
struct simgpu_card_facts {
    char name[SIMGPU_TEXT];
    char uuid[SIMGPU_TEXT];
    char serial[SIMGPU_TEXT];
    uint64_t memory;
    uint64_t context_bytes;
    uint64_t module_bytes;
    uint64_t minor;
    uint64_t pci_domain;
    uint64_t pci_bus;
    uint64_t pci_device;
    uint64_t pci_device_id;
    uint64_t pci_subsystem_id;
    uint64_t compute_major;
    uint64_t compute_minor;
    uint64_t architecture; /* nvmlDeviceArchitecture_t */
    uint64_t brand;        /* nvmlBrandType_t */
    uint64_t numa_node;
    uint64_t multiprocessors;
    uint64_t sm_clock;
    uint64_t memory_clock;
    uint64_t power_limit;
    uint64_t link_group; /* cards of one non-zero group are joined by NVLink */
    uint64_t pool_chunk; /* pools grow by multiples of it; 0: by 512 bytes */
    uint64_t lazy_bytes; /* what a module takes besides when its first function is launched */
    uint64_t spare[5];
};

/* What happens on a card now. */
struct simgpu_card {
    struct simgpu_card_facts facts;
    simgpu_u64 lock; /* slot + 1 of the holder, 0 when free */
    simgpu_u64 used;
    simgpu_u64 peak;
    simgpu_u64 busy_until; /* CLOCK_MONOTONIC ns at which the queue is empty */
    simgpu_u64 launches;
    simgpu_u64 refused; /* allocations refused for want of memory */
    simgpu_u64 lost;
    simgpu_u64 ecc_corrected;
    simgpu_u64 ecc_uncorrected;
    simgpu_u64 released; /* dead processes whose memory was taken back */
    uint64_t spare[6];
};

/* One stretch of a process's work on a card; `busy` ns of [start, end) were spent. */
struct simgpu_stretch {
    simgpu_u64 start;
    simgpu_u64 end;
    simgpu_u64 busy;
};

/* A process's account on one card. */
struct simgpu_account {
    simgpu_u64 bytes;
    simgpu_u64 peak;
    simgpu_u64 contexts;
    simgpu_u64 launches;
    simgpu_u64 busy; /* ns, submitted in all */
    simgpu_u64 last_end;
    simgpu_u64 stretches; /* how many were written in all; the ring holds the last SIMGPU_TRACE */
    uint64_t spare[1];
    struct simgpu_stretch trace[SIMGPU_TRACE];
};

struct simgpu_slot {
    simgpu_u64 taken;
    simgpu_u64 pid; /* in the owner's own PID namespace; readers ask the lock for theirs */
    simgpu_u64 started;
    simgpu_u64 generation;
    simgpu_u64 identity; /* random per exec, so that a process knows its own slot from either library */
    simgpu_u64 ended;    /* when somebody noticed that the process is dead, while its memory lingers */
    uint64_t spare[2];
    struct simgpu_account accounts[SIMGPU_MAX_CARDS];
};

struct simgpu_state {
    uint64_t magic;
    uint64_t layout;
    uint64_t size;
    uint64_t card_count;
    uint64_t cuda_version;
    char driver_version[SIMGPU_TEXT];
    char nvml_version[SIMGPU_TEXT];
    simgpu_u64 armed; /* active faults plus lost cards: 0 keeps every call on its fast path */
    simgpu_u64 event_count;
    simgpu_u64 shared_tail; /* bytes of inter-process memory handed out behind the fixed part */
    uint64_t foreign_pids;  /* not 0: NVML reports process ids of a namespace that no caller is in */
    uint64_t linger_ns;     /* so long the driver takes to free what an ended process held */
    uint64_t event_percent; /* of the time that lay between two events, that is what cuEventElapsedTime tells */
    uint64_t spare[5];
    struct simgpu_fault faults[SIMGPU_MAX_FAULTS];
    struct simgpu_event events[SIMGPU_MAX_EVENTS];
    struct simgpu_card cards[SIMGPU_MAX_CARDS];
    struct simgpu_slot slots[SIMGPU_MAX_SLOTS];
};

#endif
