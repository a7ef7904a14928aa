/* dlsym and dlvsym: a hooked name, looked up where the vendor's library would have answered, gives the hook.
 *
 * Everything else is a tail call into the C library, so that its view of the caller (RTLD_NEXT,
 * RTLD_DEFAULT) is the real caller and not this library. */
#include <dlfcn.h>
#include <link.h>

#include "dynamic_linker.h"
#include "vgpu.h"

/* True if `address` lies in a vendor library. */
static bool is_vendors(const void *address) {
    Dl_info info;
    return address && vgpu_dl()->addr(address, &info) && info.dli_fname &&
           vgpu_library_of_file(info.dli_fname) != VGPU_LIBRARY_COUNT;
}

static bool is_pseudo(void *handle) { return handle == RTLD_DEFAULT || handle == RTLD_NEXT; }

/* The object that `caller` is part of, as a handle of its own look-up scope. */
static void *scope_of(const void *caller) {
    Dl_info info;
    if (!vgpu_dl()->addr(caller, &info) || !info.dli_fname) return 0;
    return vgpu_dl()->open(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
}

/* What the program would have found behind this library: in the global scope, or in its caller's own. */
static void *behind_us(void *handle, const char *name, const void *caller) {
    void *found = vgpu_dl()->sym(RTLD_NEXT, name);
    if (found || handle == RTLD_NEXT) return found;
    void *scope = scope_of(caller);
    return scope ? vgpu_dl()->sym(scope, name) : vgpu_dl()->sym(RTLD_NEXT, name);
}

static void *hooked(void *found, enum vgpu_function hook) {
    if (!found) return 0;
    void *entry = (void *)vgpu_functions[hook].entry;
    return found == entry || is_vendors(found) ? entry : found;
}

VGPU_EXPORT void *dlsym(void *restrict handle, const char *restrict name) {
    enum vgpu_function hook = vgpu_hook_named(name);
    void *(*real)(void *, const char *) = vgpu_dl()->sym;
    if (VGPU_LIKELY(hook == VGPU_FUNCTION_COUNT)) {
        VGPU_TAIL_CALL real(handle, name);
    }
    if (is_pseudo(handle)) return hooked(behind_us(handle, name, __builtin_return_address(0)), hook);
    return hooked(real(handle, name), hook);
}

VGPU_EXPORT void *dlvsym(void *restrict handle, const char *restrict name, const char *restrict version) {
    enum vgpu_function hook = vgpu_hook_named(name);
    void *(*real)(void *, const char *, const char *) = vgpu_dl()->vsym;
    if (VGPU_LIKELY(hook == VGPU_FUNCTION_COUNT)) {
        VGPU_TAIL_CALL real(handle, name, version);
    }
    return hooked(real(is_pseudo(handle) ? RTLD_NEXT : handle, name, version), hook);
}
