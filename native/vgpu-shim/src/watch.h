/* What the background sees of a card and of this process on it, and what follows for launches: whether idle
 * time may be used, whether measurements are undisturbed, and how far the estimates are off. */
#ifndef VGPU_WATCH_H
#define VGPU_WATCH_H

#include "shares.h"

/* Twenty times a second, from the background. */
void vgpu_watch(struct vgpu_device *device);

/* Whether anybody but this process uses the card; unknown in a process's first second. */
enum vgpu_company { VGPU_COMPANY_UNKNOWN, VGPU_ALONE, VGPU_IN_COMPANY };
enum vgpu_company vgpu_watch_company(const struct vgpu_device *device);

/* How often somebody has come while this process was alone. */
uint32_t vgpu_watch_arrivals(const struct vgpu_device *device);

/* True where nothing caps this process and others want the card, or may: then its queue is to be short. */
bool vgpu_watch_is_crowded(const struct vgpu_device *device);

/* Percent of the card that a burst share may use now, its guarantee included; 0: nothing beyond that. */
uint32_t vgpu_watch_ceiling(const struct vgpu_device *device);

/* An estimated duration as the vendor's library has found such estimates to be. */
int64_t vgpu_watch_corrected(const struct vgpu_device *device, uint64_t estimate_ns);

/* A launch that takes `usual_ns` took `span_ns`: the more of them, the surer somebody else wants the card. */
void vgpu_watch_compare(struct vgpu_device *device, uint64_t span_ns, uint64_t usual_ns);

/* Adds to a figure of this process's slot, given by its offset. */
void vgpu_watch_add(struct vgpu_device *device, size_t offset, uint64_t value);

/* In a forked child. */
void vgpu_watch_forget(void);

#endif
