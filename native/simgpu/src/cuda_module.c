/*
 * Modules and libraries. PTX tells its own entry names; in any other image every name exists.
 */
#include "cuda_module.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GLOBAL_BYTES 65536

static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER;

static CUresult load(CUmodule *out, const void *image, CUcontext context) {
    SIMGPU_NEED(out && image, CUDA_ERROR_INVALID_VALUE);
    CUmodule module = calloc(1, sizeof *module);
    SIMGPU_NEED(module, CUDA_ERROR_OUT_OF_MEMORY);
    module->context = context;
    module->card = context ? context->card : -1;
    module->charged = context ? simgpu->cards[context->card].facts.module_bytes : 0;
    if (module->charged && !simgpu_charge(module->card, module->charged)) {
        free(module);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    module->is_ptx = simgpu_read_ptx(module, image);
    *out = module;
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *out, const void *image) {
    SIMGPU_ENTER();
    CUcontext context = simgpu_current();
    SIMGPU_NEED(context && context->alive, CUDA_ERROR_INVALID_CONTEXT);
    return load(out, image, context);
}

CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned int count, CUjit_option *options, void **values) {
    (void)count, (void)options, (void)values;
    return cuModuleLoadData(out, image);
}

CUresult cuModuleLoadFatBinary(CUmodule *out, const void *image) {
    return cuModuleLoadData(out, image);
}

/* Code that is put on the card when it is first needed: at the first launch of any function of the image. */
bool simgpu_load_lazily(CUfunction function, int card) {
    CUmodule module = function->module;
    if (__builtin_expect(module->launched, 1))
        return true;
    pthread_mutex_lock(&module_lock);
    uint64_t bytes = module->launched ? 0 : simgpu->cards[card].facts.lazy_bytes;
    bool fits = !bytes || simgpu_charge(card, bytes);
    if (fits && bytes)
        module->card = card, module->charged_lazily = bytes;
    module->launched = fits;
    pthread_mutex_unlock(&module_lock);
    return fits;
}

static CUresult read_file(const char *path, char **out) {
    FILE *file = path ? fopen(path, "rb") : NULL;
    SIMGPU_NEED(file, CUDA_ERROR_FILE_NOT_FOUND);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    *out = size >= 0 ? calloc(1, (size_t)size + 1) : NULL;
    bool complete = *out && fread(*out, 1, (size_t)size, file) == (size_t)size;
    fclose(file);
    return complete ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

CUresult cuModuleLoad(CUmodule *out, const char *path) {
    char *image = NULL;
    CUresult result = read_file(path, &image);
    if (result == CUDA_SUCCESS)
        result = cuModuleLoadData(out, image);
    free(image);
    return result;
}

CUresult cuModuleUnload(CUmodule module) {
    SIMGPU_ENTER();
    SIMGPU_NEED(module, CUDA_ERROR_INVALID_HANDLE);
    if (module->charged && module->context->alive)
        simgpu_discharge(module->card, module->charged);
    if (module->charged_lazily)
        simgpu_discharge(module->card, module->charged_lazily);
    while (module->functions) {
        CUfunction function = module->functions;
        module->functions = function->next;
        free(function->legacy);
        free(function);
    }
    while (module->globals) {
        struct simgpu_global *global = module->globals;
        module->globals = global->next;
        cuMemFree_v2(global->address);
        free(global);
    }
    free(module);
    return CUDA_SUCCESS;
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode) {
    SIMGPU_ENTER();
    SIMGPU_NEED(mode, CUDA_ERROR_INVALID_VALUE);
    *mode = CU_MODULE_EAGER_LOADING;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
    SIMGPU_ENTER();
    SIMGPU_NEED(out && name && module, CUDA_ERROR_INVALID_VALUE);
    pthread_mutex_lock(&module_lock);
    CUfunction function = simgpu_find_function(module, name);
    if (!function && !module->is_ptx)
        function = simgpu_add_function(module, name, strlen(name));
    pthread_mutex_unlock(&module_lock);
    SIMGPU_NEED(function, CUDA_ERROR_NOT_FOUND);
    *out = function;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule module) {
    SIMGPU_ENTER();
    SIMGPU_NEED(count && module, CUDA_ERROR_INVALID_VALUE);
    *count = 0;
    for (CUfunction at = module->functions; at; at = at->next)
        ++*count;
    return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int count, CUmodule module) {
    SIMGPU_ENTER();
    SIMGPU_NEED(functions && module, CUDA_ERROR_INVALID_VALUE);
    CUfunction at = module->functions;
    for (unsigned number = 0; at && number < count; number++, at = at->next)
        functions[number] = at;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *size, CUmodule module, const char *name) {
    SIMGPU_ENTER();
    SIMGPU_NEED(module && name, CUDA_ERROR_INVALID_VALUE);
    struct simgpu_global *global = module->globals;
    while (global && strcmp(global->name, name) != 0)
        global = global->next;
    if (!global) {
        global = calloc(1, sizeof *global + strlen(name) + 1);
        SIMGPU_NEED(global, CUDA_ERROR_OUT_OF_MEMORY);
        strcpy(global->name, name);
        global->size = GLOBAL_BYTES;
        CUresult result = cuMemAlloc_v2(&global->address, GLOBAL_BYTES);
        if (result != CUDA_SUCCESS) {
            free(global);
            return result;
        }
        global->next = module->globals;
        module->globals = global;
    }
    if (address)
        *address = global->address;
    if (size)
        *size = global->size;
    return CUDA_SUCCESS;
}

/* A library is a module without a context; its kernels are functions. */
CUresult cuLibraryLoadData(CUlibrary *out, const void *code, CUjit_option *jit, void **jit_values, unsigned int jit_count,
                           CUlibraryOption *options, void **values, unsigned int count) {
    SIMGPU_ENTER();
    (void)jit, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count;
    return load((CUmodule *)out, code, NULL);
}

CUresult cuLibraryLoadFromFile(CUlibrary *out, const char *path, CUjit_option *jit, void **jit_values,
                               unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count) {
    char *image = NULL;
    CUresult result = read_file(path, &image);
    if (result == CUDA_SUCCESS)
        result = cuLibraryLoadData(out, image, jit, jit_values, jit_count, options, values, count);
    free(image);
    return result;
}

CUresult cuLibraryUnload(CUlibrary library) {
    return cuModuleUnload((CUmodule)library);
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
    return cuModuleGetFunction((CUfunction *)kernel, (CUmodule)library, name);
}

CUresult cuLibraryGetModule(CUmodule *module, CUlibrary library) {
    SIMGPU_ENTER();
    SIMGPU_NEED(module && library, CUDA_ERROR_INVALID_VALUE);
    *module = (CUmodule)library;
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *address, size_t *bytes, CUlibrary library, const char *name) {
    return cuModuleGetGlobal_v2(address, bytes, (CUmodule)library, name);
}

CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary library) {
    return cuModuleGetFunctionCount(count, (CUmodule)library);
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int count, CUlibrary library) {
    return cuModuleEnumerateFunctions((CUfunction *)kernels, count, (CUmodule)library);
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
    SIMGPU_ENTER();
    SIMGPU_NEED(function && kernel, CUDA_ERROR_INVALID_VALUE);
    *function = (CUfunction)kernel;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetLibrary(CUlibrary *library, CUkernel kernel) {
    SIMGPU_ENTER();
    SIMGPU_NEED(library && kernel, CUDA_ERROR_INVALID_VALUE);
    *library = (CUlibrary)((CUfunction)kernel)->module;
    return CUDA_SUCCESS;
}
