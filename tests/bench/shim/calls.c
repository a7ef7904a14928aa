/* Nanoseconds per call of the driver, as a program meets them. Run once on the bare driver and once with the
 * shim in front; with SIMGPU_TIMELINE=off the simulated driver only counts, so that the difference is the shim's.
 *
 *   calls <image> [<live allocations>]    prints "<name> <ns>" lines: the median of ROUNDS rounds each */
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "driver.h"

#define ROUNDS 15
#define MANY 10000
#define BYTES 4096

typedef CUresult (*init_fn)(unsigned);
typedef CUresult (*copy_fn)(CUdeviceptr, const void *, size_t, CUstream);
typedef CUresult (*get_function_fn)(CUfunction *, CUmodule, const char *);
typedef void (*round_fn)(void *subject, unsigned calls);

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void measure(const char *name, round_fn round, void *subject, unsigned calls) {
    double took[ROUNDS];
    round(subject, calls / 4 + 1); /* caches warm, branches learnt */
    for (unsigned i = 0; i < ROUNDS; i++) {
        double since = now_ns();
        round(subject, calls);
        took[i] = (now_ns() - since) / calls;
    }
    qsort(took, ROUNDS, sizeof *took, by_size);
    printf("%s %.2f\n", name, took[ROUNDS / 2]);
}

struct subject {
    CUfunction function;
    vgpu_fn_cuLaunchKernel launch;
    copy_fn copy;
    vgpu_fn_cuMemGetInfo_v2 info;
    vgpu_fn_cuMemAlloc_v2 alloc;
    vgpu_fn_cuMemFree_v2 free;
    vgpu_fn_cuGetProcAddress_v2 look_up;
    CUdeviceptr buffer;
};

static void launches(void *at, unsigned calls) {
    const struct subject *s = at;
    uint64_t spin = 1000;
    void *parameters[] = {&spin};
    for (unsigned i = 0; i < calls; i++) s->launch(s->function, 1, 1, 1, 32, 1, 1, 0, 0, parameters, 0);
}

/* What a training step looks like: several shapes in turn. */
static void launches_of_eight_shapes(void *at, unsigned calls) {
    const struct subject *s = at;
    uint64_t spin = 1000;
    void *parameters[] = {&spin};
    for (unsigned i = 0; i < calls; i++) s->launch(s->function, 1 + i % 8, 1, 1, 32, 1, 1, 0, 0, parameters, 0);
}

static void copies(void *at, unsigned calls) {
    const struct subject *s = at;
    char bytes[16] = {0};
    for (unsigned i = 0; i < calls; i++) s->copy(s->buffer, bytes, sizeof bytes, 0);
}

static void infos(void *at, unsigned calls) {
    const struct subject *s = at;
    size_t free, total;
    for (unsigned i = 0; i < calls; i++) s->info(&free, &total);
}

static void allocations(void *at, unsigned calls) {
    const struct subject *s = at;
    for (unsigned i = 0; i < calls; i++) {
        CUdeviceptr address;
        must(s->alloc(&address, BYTES), "cuMemAlloc");
        s->free(address);
    }
}

static void look_ups(void *at, unsigned calls) {
    static const char *const names[] = {"cuMemAlloc",     "cuMemcpyHtoDAsync", "cuLaunchKernel",  "cuCtxSynchronize",
                                        "cuStreamCreate", "cuMemGetInfo",      "cuEventRecord",   "cuModuleLoadData",
                                        "cuGraphLaunch",  "cuDeviceGet",       "cuMemAllocAsync", "cuCtxGetCurrent"};
    const struct subject *s = at;
    for (unsigned i = 0; i < calls; i++) {
        void *found;
        s->look_up(names[i % (sizeof names / sizeof *names)], &found, 12000, 0, 0);
    }
}

static char *image_of(const char *path) {
    FILE *file = fopen(path, "rb");
    char *image = calloc(1, 1 << 16);
    if (!file || !image || !fread(image, 1, (1 << 16) - 1, file)) exit(2);
    fclose(file);
    return image;
}

int main(int count, char **words) {
    struct subject s = {0};
    CUmodule module;
    if (count < 2) return 2;
    init_fn init = (init_fn)function("cuInit");
    double since = now_ns();
    must(init(0), "cuInit");
    printf("cuInit %.0f\n", now_ns() - since);
    since = now_ns();
    use_device(0);
    printf("first_context %.0f\n", now_ns() - since);
    must(CALL(cuModuleLoadData, "cuModuleLoadData")(&module, image_of(words[1])), "cuModuleLoadData");
    must(((get_function_fn)function("cuModuleGetFunction"))(&s.function, module, "spin_ns"), "cuModuleGetFunction");
    s.launch = CALL(cuLaunchKernel, "cuLaunchKernel");
    s.copy = (copy_fn)function("cuMemcpyHtoDAsync_v2");
    s.info = CALL(cuMemGetInfo_v2, "cuMemGetInfo_v2");
    s.alloc = CALL(cuMemAlloc_v2, "cuMemAlloc_v2");
    s.free = CALL(cuMemFree_v2, "cuMemFree_v2");
    s.look_up = CALL(cuGetProcAddress_v2, "cuGetProcAddress_v2");
    must(s.alloc(&s.buffer, BYTES), "cuMemAlloc");
    measure("cuLaunchKernel", launches, &s, 200000);
    measure("cuLaunchKernel_8_shapes", launches_of_eight_shapes, &s, 200000);
    measure("cuMemGetInfo", infos, &s, 100000);
    measure("alloc_free_0_live", allocations, &s, 50000);
    for (unsigned i = 0; i < MANY; i++) {
        CUdeviceptr kept;
        must(s.alloc(&kept, BYTES), "cuMemAlloc");
    }
    measure("alloc_free_10000_live", allocations, &s, 50000);
    measure("cuGetProcAddress", look_ups, &s, 24000);
    measure("cuMemcpyHtoDAsync", copies, &s, 100000);
    return 0;
}
