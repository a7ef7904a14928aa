/* The hook table at run time: names, libraries, our entry points, and the vendor's functions behind them. */
#ifndef VGPU_FUNCTIONS_H
#define VGPU_FUNCTIONS_H

#include <stdint.h>

#include "generated/vendor.h"

enum vgpu_library { VGPU_LIBCUDA, VGPU_LIBNVML, VGPU_LIBRARY_COUNT };

struct vgpu_function_row {
    const char *name;
    enum vgpu_library library;
    void (*entry)(void); /* 0: the shim calls it, nobody else sees it */
};

/* A form of a function, as cuGetProcAddress knows it: since which CUDA version, per-thread stream or not. */
struct vgpu_version_row {
    const char *name;
    int version;
    int per_thread;
    uint16_t function; /* VGPU_FUNCTION_COUNT: this form is not hooked */
};

extern const struct vgpu_function_row vgpu_functions[VGPU_FUNCTION_COUNT];
extern const uint16_t vgpu_hooks_by_name[VGPU_HOOK_COUNT];
extern const struct vgpu_version_row vgpu_versions[];
extern const unsigned vgpu_version_count;

typedef void (*vgpu_address)(void);
extern vgpu_address vgpu_real_functions[VGPU_FUNCTION_COUNT];

/* Looks the function up; never NULL: where the vendor lacks it, one that says so with an error code. */
vgpu_address vgpu_resolve(enum vgpu_function id);

static inline vgpu_address vgpu_real(enum vgpu_function id) {
    vgpu_address found = __atomic_load_n(&vgpu_real_functions[id], __ATOMIC_RELAXED);
    return __builtin_expect(found != 0, 1) ? found : vgpu_resolve(id);
}

/* The id of the hooked symbol called `name`, or VGPU_FUNCTION_COUNT. */
enum vgpu_function vgpu_hook_named(const char *name);

/* Which vendor library `file` is by its name, or VGPU_LIBRARY_COUNT. */
enum vgpu_library vgpu_library_of_file(const char *file);

/* The library's handle if the process has loaded it already; NULL otherwise. */
void *vgpu_library_if_loaded(enum vgpu_library library);

/* The library's handle, loaded if need be; NULL where there is none. */
void *vgpu_library_handle(enum vgpu_library library);

/* True if the vendor's library itself has the function. */
int vgpu_is_available(enum vgpu_function id);

#endif
