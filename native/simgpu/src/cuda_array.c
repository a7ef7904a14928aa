/*
 * Arrays and mipmapped arrays: charged like the dense memory they hold.
 */
#include "cuda_array.h"

#include <stdlib.h>

static size_t format_bytes(CUarray_format format) {
    switch ((int)format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8: return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF: return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT: return 4;
    default: return 0;
    }
}

static CUresult fill(CUarray array, const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    SIMGPU_NEED(shape->Width && shape->NumChannels && shape->NumChannels <= 4, CUDA_ERROR_INVALID_VALUE);
    array->shape = *shape;
    array->element = format_bytes(shape->Format) * shape->NumChannels;
    SIMGPU_NEED(array->element, CUDA_ERROR_NOT_SUPPORTED);
    if (simgpu_is_sparse(array))
        return CUDA_SUCCESS; /* its memory comes by mapping */
    size_t rows = (shape->Height ? shape->Height : 1) * (shape->Depth ? shape->Depth : 1);
    return cuMemAlloc_v2(&array->memory, shape->Width * array->element * rows);
}

CUresult cuArray3DCreate_v2(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && shape, CUDA_ERROR_INVALID_VALUE);
    CUarray array = calloc(1, sizeof *array);
    SIMGPU_NEED(array, CUDA_ERROR_OUT_OF_MEMORY);
    CUresult result = fill(array, shape);
    if (result == CUDA_SUCCESS)
        *out = array;
    else
        free(array);
    return result;
}

CUresult cuArrayCreate_v2(CUarray *out, const CUDA_ARRAY_DESCRIPTOR *flat) {
    SIMGPU_NEED(flat, CUDA_ERROR_INVALID_VALUE);
    CUDA_ARRAY3D_DESCRIPTOR shape = {.Width = flat->Width, .Height = flat->Height, .Format = flat->Format};
    shape.NumChannels = flat->NumChannels;
    return cuArray3DCreate_v2(out, &shape);
}

CUresult cuArrayDestroy(CUarray array) {
    SIMGPU_ENTER();
    SIMGPU_NEED(array && !array->is_level, CUDA_ERROR_INVALID_HANDLE);
    simgpu_unmap_tiles(array, NULL);
    CUresult result = cuMemFree_v2(array->memory);
    free(array);
    return result;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *shape, CUarray array) {
    SIMGPU_ENTER();
    SIMGPU_NEED(shape && array, CUDA_ERROR_INVALID_VALUE);
    *shape = array->shape;
    return CUDA_SUCCESS;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *flat, CUarray array) {
    SIMGPU_ENTER();
    SIMGPU_NEED(flat && array, CUDA_ERROR_INVALID_VALUE);
    flat->Width = array->shape.Width, flat->Height = array->shape.Height;
    flat->Format = array->shape.Format, flat->NumChannels = array->shape.NumChannels;
    return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray mipmap) {
    SIMGPU_ENTER();
    SIMGPU_NEED(mipmap, CUDA_ERROR_INVALID_HANDLE);
    for (unsigned level = 0; level < mipmap->count; level++)
        cuMemFree_v2(mipmap->levels[level].memory);
    free(mipmap);
    return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *out, const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned int levels) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && shape && levels && levels < 32, CUDA_ERROR_INVALID_VALUE);
    CUmipmappedArray mipmap = calloc(1, sizeof *mipmap + levels * sizeof mipmap->levels[0]);
    SIMGPU_NEED(mipmap, CUDA_ERROR_OUT_OF_MEMORY);
    CUDA_ARRAY3D_DESCRIPTOR smaller = *shape;
    for (; mipmap->count < levels; mipmap->count++) {
        CUresult result = fill(&mipmap->levels[mipmap->count], &smaller);
        if (result != CUDA_SUCCESS) {
            cuMipmappedArrayDestroy(mipmap);
            return result;
        }
        mipmap->levels[mipmap->count].is_level = true;
        smaller.Width = smaller.Width > 1 ? smaller.Width / 2 : 1;
        smaller.Height = smaller.Height > 1 ? smaller.Height / 2 : smaller.Height;
        smaller.Depth = smaller.Depth > 1 ? smaller.Depth / 2 : smaller.Depth;
    }
    *out = mipmap;
    return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayGetLevel(CUarray *out, CUmipmappedArray mipmap, unsigned int level) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && mipmap && level < mipmap->count, CUDA_ERROR_INVALID_VALUE);
    *out = &mipmap->levels[level];
    return CUDA_SUCCESS;
}
