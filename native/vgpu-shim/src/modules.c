/* Modules and libraries: code and globals that the driver puts on the card. */
#include "growth.h"

struct loading {
    enum vgpu_function id;
    CUmodule *module;
    CUlibrary *library;
    const void *image;
    unsigned jit_count, library_count;
    CUjit_option *jit_options;
    void **jit_values;
    CUlibraryOption *library_options;
    void **library_values;
};

static CUresult load_file(void *argument) {
    struct loading *l = argument;
    return REAL_AS(cuModuleLoad, l->id)(l->module, l->image);
}

static CUresult load_data(void *argument) {
    struct loading *l = argument;
    return REAL_AS(cuModuleLoadData, l->id)(l->module, l->image);
}

static CUresult load_data_ex(void *argument) {
    struct loading *l = argument;
    return REAL_AS(cuModuleLoadDataEx, l->id)(l->module, l->image, l->jit_count, l->jit_options, l->jit_values);
}

static CUresult load_library_data(void *argument) {
    struct loading *l = argument;
    return REAL_AS(cuLibraryLoadData, l->id)(l->library, l->image, l->jit_options, l->jit_values, l->jit_count,
                                             l->library_options, l->library_values, l->library_count);
}

static CUresult load_library_file(void *argument) {
    struct loading *l = argument;
    return REAL_AS(cuLibraryLoadFromFile, l->id)(l->library, l->image, l->jit_options, l->jit_values, l->jit_count,
                                                 l->library_options, l->library_values, l->library_count);
}

static CUresult unload_module(void *argument) { return REAL(cuModuleUnload)(*((struct loading *)argument)->module); }
static CUresult unload_library(void *argument) { return REAL(cuLibraryUnload)(*((struct loading *)argument)->library); }
static uint64_t module_key(void *argument) { return (uint64_t)*((struct loading *)argument)->module; }
static uint64_t library_key(void *argument) { return (uint64_t)*((struct loading *)argument)->library; }

static CUresult charged(struct loading *loading, CUresult (*load)(void *)) {
    if (!loading->module && !loading->library) return load(loading);
    struct vgpu_growth growth = {
        .device = vgpu_card_of_current_context(),
        .kind = VGPU_KIND_MODULE,
        .ledger = &vgpu_modules,
        .create = load,
        .undo = loading->module ? unload_module : unload_library,
        .key = loading->module ? module_key : library_key,
        .argument = loading,
    };
    return vgpu_grow(&growth);
}

CUresult vgpu_module_load(enum vgpu_function id, CUmodule *module, const char *file) {
    struct loading loading = {.id = id, .module = module, .image = file};
    return charged(&loading, load_file);
}

CUresult vgpu_module_load_data(enum vgpu_function id, CUmodule *module, const void *image) {
    struct loading loading = {.id = id, .module = module, .image = image};
    return charged(&loading, load_data);
}

CUresult vgpu_module_load_data_ex(enum vgpu_function id, CUmodule *module, const void *image, unsigned count,
                                  CUjit_option *options, void **values) {
    struct loading loading = {.id = id, .module = module, .image = image, .jit_count = count, .jit_options = options,
                              .jit_values = values};
    return charged(&loading, load_data_ex);
}

CUresult vgpu_library_load_data(enum vgpu_function id, CUlibrary *library, const void *image, CUjit_option *options,
                                void **values, unsigned count, CUlibraryOption *library_options,
                                void **library_values, unsigned library_count) {
    struct loading loading = {.id = id, .library = library, .image = image, .jit_count = count,
                              .library_count = library_count, .jit_options = options, .jit_values = values,
                              .library_options = library_options, .library_values = library_values};
    return charged(&loading, load_library_data);
}

CUresult vgpu_library_load_from_file(enum vgpu_function id, CUlibrary *library, const char *file,
                                     CUjit_option *options, void **values, unsigned count,
                                     CUlibraryOption *library_options, void **library_values,
                                     unsigned library_count) {
    struct loading loading = {.id = id, .library = library, .image = file, .jit_count = count,
                              .library_count = library_count, .jit_options = options, .jit_values = values,
                              .library_options = library_options, .library_values = library_values};
    return charged(&loading, load_library_file);
}

static CUresult unload_module_now(void *module) { return REAL(cuModuleUnload)(*(CUmodule *)module); }
static CUresult unload_library_now(void *library) { return REAL(cuLibraryUnload)(*(CUlibrary *)library); }

CUresult vgpu_module_unload(enum vgpu_function id, CUmodule module) {
    (void)id;
    return vgpu_release(&vgpu_modules, (uint64_t)module, unload_module_now, &module);
}

CUresult vgpu_library_unload(enum vgpu_function id, CUlibrary library) {
    (void)id;
    return vgpu_release(&vgpu_modules, (uint64_t)library, unload_library_now, &library);
}
