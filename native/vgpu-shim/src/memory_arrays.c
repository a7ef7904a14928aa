/* Arrays and mipmapped arrays: device memory without an address, charged by its texels. */
#include "attachments.h"
#include "holdings.h"

#define ARRAY_LAYERED 0x01u
#define ARRAY_CUBEMAP 0x04u
#define ARRAY_WITHOUT_MEMORY (0x40u | 0x80u) /* sparse, or mapped later: see memory_attached.c */

/* Bits of one texel's channel, or of one texel for block-compressed formats (which have no channels). */
static uint64_t format_bits(CUarray_format format, unsigned channels) {
    switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8: return 8ull * channels;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF: return 16ull * channels;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT: return 32ull * channels;
    case CU_AD_FORMAT_BC1_UNORM:
    case CU_AD_FORMAT_BC1_UNORM_SRGB:
    case CU_AD_FORMAT_BC4_UNORM:
    case CU_AD_FORMAT_BC4_SNORM: return 4;
    default: return format >= CU_AD_FORMAT_BC2_UNORM && format <= CU_AD_FORMAT_BC7_UNORM_SRGB ? 8 : 32ull * channels;
    }
}

static uint64_t at_least_one(uint64_t extent) { return extent ? extent : 1; }

static uint64_t texel_bytes(uint64_t width, uint64_t height, uint64_t depth, CUarray_format format, unsigned channels) {
    uint64_t texels, bits;
    if (__builtin_mul_overflow(at_least_one(width), at_least_one(height), &texels) ||
        __builtin_mul_overflow(texels, at_least_one(depth), &texels) ||
        __builtin_mul_overflow(texels, format_bits(format, channels), &bits))
        return UINT64_MAX;
    return bits / 8 + (bits % 8 != 0);
}

CUresult vgpu_array_create(enum vgpu_function id, CUarray *array, const CUDA_ARRAY_DESCRIPTOR *shape) {
    struct vgpu_holding holding;
    if (!array || !shape) return REAL_AS(cuArrayCreate_v2, id)(array, shape);
    uint64_t bytes = texel_bytes(shape->Width, shape->Height, 1, shape->Format, shape->NumChannels);
    if (!vgpu_hold(&holding, bytes, VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuArrayCreate_v2, id)(array, shape);
    return vgpu_settle(&vgpu_arrays, result, (uint64_t)*array, &holding);
}

CUresult vgpu_array_create_v1(enum vgpu_function id, CUarray *array, const CUDA_ARRAY_DESCRIPTOR_v1 *shape) {
    struct vgpu_holding holding;
    if (!array || !shape) return REAL_AS(cuArrayCreate, id)(array, shape);
    uint64_t bytes = texel_bytes(shape->Width, shape->Height, 1, shape->Format, shape->NumChannels);
    if (!vgpu_hold(&holding, bytes, VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuArrayCreate, id)(array, shape);
    return vgpu_settle(&vgpu_arrays, result, (uint64_t)*array, &holding);
}

CUresult vgpu_array3d_create(enum vgpu_function id, CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    struct vgpu_holding holding;
    if (!array || !shape || shape->Flags & ARRAY_WITHOUT_MEMORY) return REAL_AS(cuArray3DCreate_v2, id)(array, shape);
    uint64_t bytes = texel_bytes(shape->Width, shape->Height, shape->Depth, shape->Format, shape->NumChannels);
    if (!vgpu_hold(&holding, bytes, VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuArray3DCreate_v2, id)(array, shape);
    return vgpu_settle(&vgpu_arrays, result, (uint64_t)*array, &holding);
}

CUresult vgpu_array3d_create_v1(enum vgpu_function id, CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR_v1 *shape) {
    struct vgpu_holding holding;
    if (!array || !shape) return REAL_AS(cuArray3DCreate, id)(array, shape);
    uint64_t bytes = texel_bytes(shape->Width, shape->Height, shape->Depth, shape->Format, shape->NumChannels);
    if (!vgpu_hold(&holding, bytes, VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuArray3DCreate, id)(array, shape);
    return vgpu_settle(&vgpu_arrays, result, (uint64_t)*array, &holding);
}

static CUresult destroy_array(void *array) { return REAL(cuArrayDestroy)(*(CUarray *)array); }

CUresult vgpu_array_destroy(enum vgpu_function id, CUarray array) {
    (void)id;
    CUresult result = vgpu_release(&vgpu_arrays, (uint64_t)array, destroy_array, &array);
    if (result == CUDA_SUCCESS) vgpu_detach((uint64_t)array | VGPU_ARRAY_OBJECT, 0);
    return result;
}

/* Each level halves every extent that is not a count of layers. */
static uint64_t mipmapped_bytes(const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned levels) {
    uint64_t width = shape->Width, height = shape->Height, depth = shape->Depth, sum = 0;
    bool layered = shape->Flags & (ARRAY_LAYERED | ARRAY_CUBEMAP);
    for (unsigned level = 0; level < levels; level++) {
        uint64_t bytes = texel_bytes(width, height, depth, shape->Format, shape->NumChannels);
        if (__builtin_add_overflow(sum, bytes, &sum)) return UINT64_MAX;
        if (width <= 1 && height <= 1 && (layered || depth <= 1)) break;
        width = at_least_one(width / 2);
        height = height ? at_least_one(height / 2) : 0;
        depth = layered || !depth ? depth : at_least_one(depth / 2);
    }
    return sum;
}

CUresult vgpu_mipmapped_array_create(enum vgpu_function id, CUmipmappedArray *array,
                                     const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned levels) {
    struct vgpu_holding holding;
    if (!array || !shape || shape->Flags & ARRAY_WITHOUT_MEMORY)
        return REAL_AS(cuMipmappedArrayCreate, id)(array, shape, levels);
    if (!vgpu_hold(&holding, mipmapped_bytes(shape, levels), VGPU_KIND_BUFFER)) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = REAL_AS(cuMipmappedArrayCreate, id)(array, shape, levels);
    return vgpu_settle(&vgpu_arrays, result, (uint64_t)*array, &holding);
}

static CUresult destroy_mipmapped(void *array) { return REAL(cuMipmappedArrayDestroy)(*(CUmipmappedArray *)array); }

CUresult vgpu_mipmapped_array_destroy(enum vgpu_function id, CUmipmappedArray array) {
    (void)id;
    CUresult result = vgpu_release(&vgpu_arrays, (uint64_t)array, destroy_mipmapped, &array);
    if (result == CUDA_SUCCESS) vgpu_detach((uint64_t)array | VGPU_ARRAY_OBJECT, 0);
    return result;
}
