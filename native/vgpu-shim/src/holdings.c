/* Reserve, ask the driver, then commit or give back: the one order in which a limit holds in any race. */
#include "holdings.h"

#include "graphs.h"
#include "pools.h"
#include "swap.h"

struct vgpu_ledger vgpu_linear, vgpu_arrays, vgpu_handles, vgpu_maps;

bool vgpu_hold(struct vgpu_holding *holding, uint64_t bytes, enum vgpu_kind kind) {
    struct vgpu_device *device = vgpu_card_of_current_context();
    holding->size = bytes;
    holding->record = 0;
    if (!device || REAL(cuCtxGetCurrent)(&holding->context) != CUDA_SUCCESS) holding->context = 0;
    return vgpu_charge(&holding->charge, device, bytes, kind);
}

CUresult vgpu_settle(struct vgpu_ledger *ledger, CUresult result, uint64_t key, struct vgpu_holding *holding) {
    if (!holding->charge.device) return result;
    if (result == CUDA_SUCCESS) vgpu_ledger_put(ledger, key, holding);
    else vgpu_charge_end(&holding->charge);
    return result;
}

CUresult vgpu_release(struct vgpu_ledger *ledger, uint64_t key, CUresult (*free)(void *), void *argument) {
    struct vgpu_holding holding;
    bool known = vgpu_ledger_take(ledger, key, &holding); /* first: the driver may hand the key out again at once */
    CUresult result = free(argument);
    if (!known) return result;
    if (result == CUDA_SUCCESS) {
        if (holding.charge.kind == VGPU_KIND_SWAP) vgpu_swap_forget_range(key);
        vgpu_charge_end(&holding.charge);
    } else vgpu_ledger_put(ledger, key, &holding);
    return result;
}

void vgpu_end_context(CUcontext context) {
    vgpu_ledger_end_context(&vgpu_linear, context);
    vgpu_ledger_end_context(&vgpu_arrays, context);
}

uint64_t vgpu_held_bytes(const struct vgpu_device *device) {
    return vgpu_ledger_bytes_on(&vgpu_linear, device) + vgpu_ledger_bytes_on(&vgpu_arrays, device) +
           vgpu_physical_bytes(device) + vgpu_pool_bytes(device) + vgpu_graph_bytes(device);
}
