/* In a container of its own PID namespace, NVML may speak of processes by the host's numbers. The own number
 * is needed to measure contexts and code, and by the other processes of the share to know whom a list means.
 *
 * Whoever is new on the card right after this process made its first context there is a candidate. One that
 * has this process's own id, or the only one, is it; among several, memory taken on purpose tells. A number
 * that merely equals this process's id is not believed: on the host it may be somebody else. */
#include "identity.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "charge.h"

#define STEP (2ull << 20) /* cards give memory in blocks of so much */
#define ATTEMPTS 4

static uint32_t own_number;
static uint32_t own_namespace;

unsigned vgpu_nvml_pid(void) { return ACQUIRE_LOAD(&own_number); }

void vgpu_identity_forget(void) { own_number = own_namespace = 0; }

/* The link reads "pid:[4026531836]". */
unsigned vgpu_pid_namespace(void) {
    char text[64];
    unsigned known = RELAXED_LOAD(&own_namespace);
    if (known) return known;
    ssize_t length = readlink("/proc/self/ns/pid", text, sizeof text - 1);
    if (length <= 0) return 0;
    text[length] = 0;
    const char *bracket = strchr(text, '[');
    known = bracket ? (unsigned)strtoul(bracket + 1, 0, 10) : 0;
    __atomic_store_n(&own_namespace, known, __ATOMIC_RELAXED);
    return known;
}

void vgpu_identity_before(const struct vgpu_device *device, struct vgpu_roster *roster) {
    roster->count = VGPU_MOST_PROCESSES;
    roster->known = !vgpu_nvml_pid() && vgpu_card_processes(device, roster->processes, &roster->count);
}

static const nvmlProcessInfo_t *find(const struct vgpu_roster *roster, unsigned pid) {
    for (unsigned i = 0; i < roster->count; i++)
        if (roster->processes[i].pid == pid) return &roster->processes[i];
    return 0;
}

/* Keeps those of `now` that were not there before. */
static void keep_new(struct vgpu_roster *now, const struct vgpu_roster *before) {
    unsigned kept = 0;
    for (unsigned i = 0; i < now->count; i++)
        if (!find(before, now->processes[i].pid)) now->processes[kept++] = now->processes[i];
    now->count = kept;
}

/* Keeps those that grew by `bytes`, as a card rounds them. */
static void keep_grown(struct vgpu_roster *candidates, const struct vgpu_roster *now, uint64_t bytes) {
    unsigned kept = 0;
    for (unsigned i = 0; i < candidates->count; i++) {
        const nvmlProcessInfo_t *then = &candidates->processes[i], *after = find(now, then->pid);
        uint64_t grown = after && after->usedGpuMemory > then->usedGpuMemory ? after->usedGpuMemory - then->usedGpuMemory : 0;
        if (grown >= bytes && grown < bytes + STEP) candidates->processes[kept++] = *then;
    }
    candidates->count = kept;
}

static bool read_roster(const struct vgpu_device *device, struct vgpu_roster *roster) {
    roster->count = VGPU_MOST_PROCESSES;
    return vgpu_card_processes(device, roster->processes, &roster->count);
}

/* Takes an uncommon amount of memory for a moment, and sees whose figure follows. */
static void tell_apart(struct vgpu_device *device, struct vgpu_roster *candidates, struct vgpu_roster *now) {
    struct vgpu_charge charge;
    CUdeviceptr memory;
    uint64_t bytes = STEP * (3 + (vgpu_now_ns() >> 10) % 29);
    if (!vgpu_charge(&charge, device, bytes, VGPU_KIND_CONTEXT)) return;
    if (read_roster(device, now)) {
        for (unsigned i = 0; i < candidates->count; i++) {
            const nvmlProcessInfo_t *seen = find(now, candidates->processes[i].pid);
            if (seen) candidates->processes[i] = *seen;
        }
        if (REAL(cuMemAlloc_v2)(&memory, bytes) == CUDA_SUCCESS) {
            if (read_roster(device, now)) keep_grown(candidates, now, bytes);
            REAL(cuMemFree_v2)(memory);
        }
    }
    vgpu_charge_end(&charge);
}

static unsigned choose(struct vgpu_device *device, struct vgpu_roster *candidates, struct vgpu_roster *now) {
    if (find(candidates, (unsigned)getpid())) return (unsigned)getpid();
    for (unsigned attempt = 0; attempt < ATTEMPTS && candidates->count > 1; attempt++)
        tell_apart(device, candidates, now);
    return candidates->count == 1 ? candidates->processes[0].pid : 0;
}

static void publish(const struct vgpu_device *device) {
    for (unsigned i = 0; i < device->share_count; i++) {
        struct vgpu_usage_slot *slot = vgpu_region_slot((struct vgpu_region *)&device->shares[i]);
        if (!slot) continue;
        __atomic_store_n(&slot->pid_namespace, vgpu_pid_namespace(), __ATOMIC_RELAXED);
        RELEASE_STORE(&slot->nvml_pid, vgpu_nvml_pid());
    }
}

static void learn(struct vgpu_device *device, const struct vgpu_roster *before, CUcontext made) {
    struct vgpu_roster *candidates = calloc(2, sizeof *candidates), *now = candidates + 1;
    CUcontext top;
    if (!candidates) return;
    if (REAL(cuCtxPushCurrent_v2)(made) == CUDA_SUCCESS) {
        if (read_roster(device, candidates)) {
            keep_new(candidates, before);
            unsigned number = choose(device, candidates, now);
            if (number) RELEASE_STORE(&own_number, number);
            else vgpu_log(VGPU_LOG_WARNING, "NVML does not say which process of %s this is", device->uuid);
        }
        REAL(cuCtxPopCurrent_v2)(&top);
    }
    free(candidates);
}

void vgpu_identity_after(struct vgpu_device *device, const struct vgpu_roster *before, CUcontext made) {
    if (!vgpu_nvml_pid() && before->known) learn(device, before, made);
    if (vgpu_nvml_pid()) publish(device);
}
