/* What background.c does in the library for a copy of the process, for programs that have one share and no thread. */
#include "../../src/background.h"

#include "../../src/region.h"

struct vgpu_region unit_region;

void vgpu_forget_parent(void) {
    vgpu_process_begin();
    vgpu_region_forget_slot(&unit_region);
}
