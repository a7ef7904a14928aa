/* The number by which NVML knows this process: its own id, or the host's where NVML speaks of the host. */
#ifndef VGPU_IDENTITY_H
#define VGPU_IDENTITY_H

#include "cards.h"

/* Who was on the card before this process makes a context there. */
struct vgpu_roster {
    bool known;
    unsigned count;
    nvmlProcessInfo_t processes[VGPU_MOST_PROCESSES];
};

/* Before and after a context is made: learns the number, if it is not known yet. */
void vgpu_identity_before(const struct vgpu_device *device, struct vgpu_roster *roster);
void vgpu_identity_after(struct vgpu_device *device, const struct vgpu_roster *before, CUcontext made);

/* 0: not known. */
unsigned vgpu_nvml_pid(void);

/* The PID namespace of this process, as a number; 0: unknown. */
unsigned vgpu_pid_namespace(void);

/* In a forked child. */
void vgpu_identity_forget(void);

#endif
