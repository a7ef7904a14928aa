/* Finds the vendor's functions behind the hooks: in the vendor's own library, never by symbol order,
 * because the first in that order is this library. */
#include "functions.h"

#include <dlfcn.h>
#include <string.h>

#include "dynamic_linker.h"

static const char *const library_names[VGPU_LIBRARY_COUNT] = {"libcuda.so.1", "libnvidia-ml.so.1"};
static const char *const library_prefixes[VGPU_LIBRARY_COUNT] = {"libcuda.so", "libnvidia-ml.so"};
static void *library_handles[VGPU_LIBRARY_COUNT];

vgpu_address vgpu_real_functions[VGPU_FUNCTION_COUNT];

static unsigned missing_from_cuda(void) { return CUDA_ERROR_NOT_FOUND; }
static unsigned missing_from_nvml(void) { return NVML_ERROR_FUNCTION_NOT_FOUND; }

static vgpu_address missing(enum vgpu_library library) {
    return library == VGPU_LIBCUDA ? (vgpu_address)missing_from_cuda : (vgpu_address)missing_from_nvml;
}

static void *open_library(enum vgpu_library library, int mode) {
    void *handle = __atomic_load_n(&library_handles[library], __ATOMIC_ACQUIRE);
    if (handle) return handle;
    handle = vgpu_dl()->open(library_names[library], RTLD_LAZY | mode);
    if (handle) __atomic_store_n(&library_handles[library], handle, __ATOMIC_RELEASE);
    return handle;
}

void *vgpu_library_if_loaded(enum vgpu_library library) { return open_library(library, RTLD_NOLOAD); }

void *vgpu_library_handle(enum vgpu_library library) { return open_library(library, 0); }

vgpu_address vgpu_resolve(enum vgpu_function id) {
    const struct vgpu_function_row *row = &vgpu_functions[id];
    void *handle = vgpu_library_handle(row->library);
    vgpu_address found = handle ? (vgpu_address)vgpu_dl()->sym(handle, row->name) : 0;
    if (!found && !handle) return missing(row->library); /* the library may still come */
    if (!found) found = missing(row->library);
    __atomic_store_n(&vgpu_real_functions[id], found, __ATOMIC_RELAXED);
    return found;
}

int vgpu_is_available(enum vgpu_function id) { return vgpu_real(id) != missing(vgpu_functions[id].library); }

enum vgpu_function vgpu_hook_named(const char *name) {
    int low = 0, high = VGPU_HOOK_COUNT - 1;
    if (strncmp(name, "cu", 2) != 0 && strncmp(name, "nvml", 4) != 0) return VGPU_FUNCTION_COUNT;
    while (low <= high) {
        int middle = (low + high) / 2;
        int order = strcmp(name, vgpu_functions[vgpu_hooks_by_name[middle]].name);
        if (order == 0) return vgpu_hooks_by_name[middle];
        if (order < 0) high = middle - 1;
        else low = middle + 1;
    }
    return VGPU_FUNCTION_COUNT;
}

enum vgpu_library vgpu_library_of_file(const char *file) {
    const char *slash = strrchr(file, '/');
    const char *base = slash ? slash + 1 : file;
    for (int library = 0; library < VGPU_LIBRARY_COUNT; library++) {
        size_t length = strlen(library_prefixes[library]);
        if (strncmp(base, library_prefixes[library], length) == 0 && (base[length] == 0 || base[length] == '.'))
            return (enum vgpu_library)library;
    }
    return VGPU_LIBRARY_COUNT;
}
