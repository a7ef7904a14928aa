/* Processes that have ended while the driver still holds their memory: their charges may not go back yet. */
#ifndef VGPU_LINGERING_H
#define VGPU_LINGERING_H

#include "cards.h"

/* Looks who is on the card, and gives back what dead processes of its shares were charged, unless the driver still
 * holds it. Outside all locks. */
void vgpu_lingering_repair(struct vgpu_device *device);

/* From now on, no dead process's charge goes back before somebody has looked. */
void vgpu_lingering_prepare(void);

/* In a forked child. */
void vgpu_lingering_forget(void);

#endif
