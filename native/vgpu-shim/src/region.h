/* One share, mapped: its limits, its accounting, and this process's slot in it. */
#ifndef VGPU_REGION_H
#define VGPU_REGION_H

#include "futex_lock.h"
#include "vgpu.h"

#define VGPU_PATH_SIZE 512

/* What a charge is for; each has its figure in the slot. */
enum vgpu_kind { VGPU_KIND_CONTEXT, VGPU_KIND_MODULE, VGPU_KIND_BUFFER, VGPU_KIND_MANAGED, VGPU_KIND_SWAP };

struct vgpu_region {
    char usage_path[VGPU_PATH_SIZE];
    const struct vgpu_limits *limits;
    struct vgpu_usage *usage;
    uint64_t file_system, inode;  /* which file `usage` is: a path, or a descriptor's number, may come to mean another */
    struct vgpu_usage_slot *slot; /* this process's; 0 until it first charges */
    int lock_file;                /* the open file description that holds the slot's lock byte; -1: none */
    void *held;                   /* a mapping of it, that no child inherits and no close() ends; 0: none */
    int repair_file;              /* another, by which others' lock bytes are tried while repair lasts; -1: none */
    uint64_t recount_not_before_ns;
    struct vgpu_lock lock;        /* claiming and repairing, within this process */
    struct vgpu_lock change_lock; /* one change of the total at a time, within this process */
};

/* Maps the share in `folder`; 0, or a negative errno: -ENOENT missing, -EPROTO not ours, hostile or too new. */
int vgpu_region_map(struct vgpu_region *region, const char *folder);

/* Zero in a page that the kernel wipes in every copy of this process. */
extern uint32_t *vgpu_process_mark;
static inline bool vgpu_same_process(void) { return RELAXED_LOAD(vgpu_process_mark) != 0; }

/* This process's slot, claimed at the first call; NULL when all slots are taken or the file is lost. */
struct vgpu_usage_slot *vgpu_region_first_slot(struct vgpu_region *region);
static inline struct vgpu_usage_slot *vgpu_region_slot(struct vgpu_region *region) {
    struct vgpu_usage_slot *slot = ACQUIRE_LOAD(&region->slot);
    return VGPU_LIKELY(slot && vgpu_same_process()) ? slot : vgpu_region_first_slot(region);
}

/* Whether the driver may still hold what a dead process had, so that its charge stays; NULL: nobody can tell. */
extern bool (*vgpu_region_lingers)(const struct vgpu_usage_slot *dead);

/* Gives the charges of dead processes back to the share. Cheap when there are none. */
void vgpu_region_repair(struct vgpu_region *region);

/* Takes up to `wanted` bytes below the limit, or none unless `partly`; returns what it took. */
uint64_t vgpu_region_take(struct vgpu_region *region, uint64_t wanted, bool partly, enum vgpu_kind kind);

/* Gives `bytes` of a kind back. */
void vgpu_region_give(struct vgpu_region *region, uint64_t bytes, enum vgpu_kind kind);

/* Bytes that the share may use now. */
uint64_t vgpu_region_memory_limit(const struct vgpu_region *region);

/* Percent of the card that the share may use now; 0: no cap. */
uint32_t vgpu_region_cores_limit(const struct vgpu_region *region);

/* True while the share is to wait; a gate whose keeper shows no sign of life any more is open. */
bool vgpu_region_is_paused(const struct vgpu_region *region);

/* Remembers which process this is, so that a copy of it made by a bare fork or clone call is noticed. */
void vgpu_process_begin(void);

/* In a forked child: the slot and its charges are the parent's. */
void vgpu_region_forget_slot(struct vgpu_region *region);

uint64_t vgpu_now_ns(void);

struct stat;
bool vgpu_file_status(int file, struct stat *status);

#endif
