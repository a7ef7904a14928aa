/* The share's budget of device time: filled at the limit, shared by all processes of the share. */
#ifndef VGPU_BUDGET_H
#define VGPU_BUDGET_H

#include "shares.h"

/* Percent of the card that all shares of it are limited to together; 0: no cap (some share has none, or they
 * sum up to all). Idle time that a burst share may use is not in it. */
uint32_t vgpu_budget_limit(const struct vgpu_device *device);

/* True if a share of the card may use idle time; if one that may has the high priority. */
bool vgpu_budget_may_burst(const struct vgpu_device *device);
bool vgpu_budget_has_priority(const struct vgpu_device *device);

/* True while a share of the card is paused. */
bool vgpu_budget_is_paused(const struct vgpu_device *device);

/* Takes `wanted` ns from the share with the most budget, if it is not overdrawn; false: `*wait_ns` until it is not. */
bool vgpu_budget_take(struct vgpu_device *device, int64_t wanted, uint64_t *wait_ns);

/* Takes or gives back without asking; the budget may become negative. Where there is no cap, nothing is counted. */
void vgpu_budget_charge(struct vgpu_device *device, int64_t ns);

#endif
