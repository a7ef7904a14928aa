/* What background.c does in the library for a copy of the process, for programs that have one share and no thread;
 * and what watch.c would say of the card. */
#include "../../src/background.h"

#include "../../src/watch.h"

struct vgpu_region unit_region;
uint32_t unit_ceiling;

uint32_t vgpu_watch_ceiling(const struct vgpu_device *device) {
    (void)device;
    return unit_ceiling;
}

void vgpu_forget_parent(void) {
    vgpu_process_begin();
    vgpu_region_forget_slot(&unit_region);
}
