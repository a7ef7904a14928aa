/* Which card a call is about: everything is keyed by UUID, because ordinals differ between libraries. */
#ifndef VGPU_CARDS_H
#define VGPU_CARDS_H

#include "shares.h"

#define VGPU_MOST_PROCESSES 256u /* of one card */

/* The card of a CUDA ordinal, of the calling thread's current context, of an NVML handle; NULL: no share of it. */
struct vgpu_device *vgpu_card_of_ordinal(CUdevice ordinal);
struct vgpu_device *vgpu_card_of_current_context(void);
struct vgpu_device *vgpu_card_of_nvml(nvmlDevice_t handle);

/* Device memory that the vendor reports for this process on the card; false where it cannot tell. */
bool vgpu_card_process_memory(const struct vgpu_device *device, uint64_t *bytes);

/* The processes on the card, of all tenants; `count` is the room, then the number. False where NVML cannot tell. */
bool vgpu_card_processes(const struct vgpu_device *device, nvmlProcessInfo_t *processes, unsigned *count);

/* Device memory in use on the whole card; false where the vendor cannot tell. */
bool vgpu_card_used(const struct vgpu_device *device, uint64_t *bytes);

/* In a forked child: NVML has to be initialised again. */
void vgpu_cards_forget(void);

/* How busy the whole card is, percent, as NVML says; false where it cannot tell. */
bool vgpu_card_utilisation(const struct vgpu_device *device, unsigned *percent);

/* How busy this process kept the card over NVML's last period, percent; false where NVML does not know the
 * process by the id that it has here, or has no such figure. */
bool vgpu_card_process_utilisation(const struct vgpu_device *device, unsigned *percent);

#endif
