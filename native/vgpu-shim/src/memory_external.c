/* Memory that a graphics or safety interface made on the card and this process imports. No call that made it
 * is interposed, so nobody was charged: who imports it is. A DMA buffer is left out: another device's, or
 * what a CUDA process made and was charged for. Two that import the same memory both pay: the limit holds. */
#include "holdings.h"

CUresult vgpu_import_external_memory(enum vgpu_function id, CUexternalMemory *memory,
                                     const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *wanted) {
    struct vgpu_holding holding;
    if (!memory || !wanted || wanted->type == CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD)
        return REAL_AS(cuImportExternalMemory, id)(memory, wanted);
    if (!vgpu_hold(&holding, wanted->size, VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuImportExternalMemory, id)(memory, wanted);
    return vgpu_settle(&vgpu_arrays, result, (uint64_t)*memory, &holding);
}

static CUresult destroy_now(void *memory) { return REAL(cuDestroyExternalMemory)(*(CUexternalMemory *)memory); }

CUresult vgpu_destroy_external_memory(enum vgpu_function id, CUexternalMemory memory) {
    (void)id;
    return vgpu_release(&vgpu_arrays, (uint64_t)memory, destroy_now, &memory);
}
