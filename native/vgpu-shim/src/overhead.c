/* Code that is loaded when it is first launched, stacks and heaps that grow, blocks that the driver rounds up:
 * no call tells of them. The process's figure in NVML does. What it holds beyond everything charged is charged
 * as code, when two readings agree and no charge changed meanwhile. It cannot be refused any more, so it takes
 * what room is left, and the next allocation is refused. */
#include "overhead.h"

#include "charge.h"

#define SLACK (4ull << 20) /* what rounding alone may explain */

static struct {
    struct vgpu_charge charge;
    uint64_t last;
} overheads[VGPU_MAX_DEVICES];

/* What this process is charged on the card and NVML counts: managed memory may be elsewhere. */
static uint64_t charged_on_card(const struct vgpu_device *device) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < device->share_count; i++) {
        const struct vgpu_usage_slot *slot = ACQUIRE_LOAD(&device->shares[i].slot);
        if (slot) sum += RELAXED_LOAD(&slot->charged_bytes) - RELAXED_LOAD(&slot->managed_bytes);
    }
    return sum;
}

static void charge_what_fits(struct vgpu_charge *charge, uint64_t more) {
    uint64_t limit = vgpu_device_limit(charge->device), used = vgpu_device_used(charge->device);
    uint64_t room = limit > used ? limit - used : 0;
    if (more > room) vgpu_log(VGPU_LOG_WARNING, "the driver took %llu bytes, the share had %llu left",
                              (unsigned long long)more, (unsigned long long)room);
    if (!vgpu_charge_try(charge, more)) vgpu_charge_try(charge, more < room ? more : room);
}

void vgpu_overhead_measure(struct vgpu_device *device) {
    unsigned count;
    struct vgpu_charge *charge = &overheads[device - vgpu_all_devices(&count)].charge;
    uint64_t *last = &overheads[device - vgpu_all_devices(&count)].last, reported;
    uint64_t before = charged_on_card(device);
    if (!device->share_count || !before) return;
    if (!vgpu_card_process_memory(device, &reported) || charged_on_card(device) != before) return;
    uint64_t paid = vgpu_charged_bytes(charge), explained = before - paid;
    uint64_t beyond = reported > explained + SLACK ? reported - explained : 0;
    uint64_t due = beyond < *last ? beyond : *last;
    *last = beyond;
    charge->device = device;
    charge->kind = VGPU_KIND_MODULE;
    if (due > paid) charge_what_fits(charge, due - paid);
    if (due < paid && beyond < paid) vgpu_charge_shrink(charge, paid - beyond);
}

void vgpu_overhead_forget(void) { __builtin_memset(overheads, 0, sizeof overheads); }
