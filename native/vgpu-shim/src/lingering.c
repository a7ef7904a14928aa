/* The kernel tells of a process's end when it drops the lock of its slot; the driver may need a moment more to
 * free what it held. A charge that went back in between would let another process of the share take memory
 * that the card does not have back yet. So before a dead process's charge is given back, NVML is asked who is
 * on the card, and those whom it still names wait for the next look, though not for ever: the number may have
 * come to mean somebody else. */
#include "lingering.h"

#include <string.h>

#include "identity.h"

#define LOOK_AGAIN_NS 2000000u
#define PATIENCE_NS 800000000u

enum outcome { NEVER_LOOKED, NOBODY_TELLS, TOLD };

static struct vgpu_lock roster_lock;
static uint32_t outcome;
static uint64_t looked_ns;
static unsigned count;
static struct {
    unsigned pid;
    uint64_t since_ns; /* when a dead process was first found under this number; 0: none was */
} roster[VGPU_MOST_PROCESSES];

static uint64_t since(unsigned pid) {
    for (unsigned i = 0; i < count; i++)
        if (roster[i].pid == pid) return roster[i].since_ns;
    return 0;
}

static void take_over(const nvmlProcessInfo_t *processes, unsigned found) {
    uint64_t kept[VGPU_MOST_PROCESSES];
    for (unsigned i = 0; i < found; i++) kept[i] = since(processes[i].pid);
    for (unsigned i = 0; i < found; i++) {
        roster[i].pid = processes[i].pid;
        roster[i].since_ns = kept[i];
    }
    count = found;
}

static void look(const struct vgpu_device *device) {
    nvmlProcessInfo_t processes[VGPU_MOST_PROCESSES];
    unsigned found = VGPU_MOST_PROCESSES;
    if (vgpu_now_ns() - RELAXED_LOAD(&looked_ns) < LOOK_AGAIN_NS) return;
    bool told = vgpu_card_processes(device, processes, &found);
    vgpu_lock(&roster_lock);
    if (told) take_over(processes, found);
    outcome = told ? TOLD : NOBODY_TELLS;
    __atomic_store_n(&looked_ns, vgpu_now_ns(), __ATOMIC_RELAXED);
    vgpu_unlock(&roster_lock);
}

/* With the lock held: true while the driver names it, for a while. */
static bool is_named(unsigned pid) {
    for (unsigned i = 0; i < count; i++) {
        if (roster[i].pid != pid) continue;
        if (!roster[i].since_ns) roster[i].since_ns = vgpu_now_ns();
        return vgpu_now_ns() - roster[i].since_ns < PATIENCE_NS;
    }
    return false;
}

/* A process that made no context has no number, and holds nothing on the card. */
static bool lingers(const struct vgpu_usage_slot *dead) {
    unsigned pid = ACQUIRE_LOAD(&dead->nvml_pid);
    bool waits = false;
    if (!pid) return false;
    vgpu_lock(&roster_lock);
    if (outcome == NEVER_LOOKED) waits = true;
    if (outcome == TOLD) waits = is_named(pid);
    vgpu_unlock(&roster_lock);
    return waits;
}

void vgpu_lingering_prepare(void) { vgpu_region_lingers = lingers; }

void vgpu_lingering_repair(struct vgpu_device *device) {
    if (!device->share_count) return;
    look(device);
    for (unsigned i = 0; i < device->share_count; i++) vgpu_region_repair(&device->shares[i]);
}

void vgpu_lingering_forget(void) {
    memset(&roster_lock, 0, sizeof roster_lock);
    outcome = NEVER_LOOKED;
    looked_ns = 0;
    count = 0;
}
