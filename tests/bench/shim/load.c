/* Work without end for the compute tables: launches kernels as fast as it may.
 *
 *   load <image> <least ns> <most ns> <grid> <streams> <way>
 *
 * Durations are spread evenly from least to most. way: kernel, graph (ten kernels a graph), sync (waits for
 * each kernel). Prints "up" when it begins. */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

#define MOST_STREAMS 16
#define GRAPH_KERNELS 10

typedef CUresult (*init_fn)(unsigned);
typedef CUresult (*get_function_fn)(CUfunction *, CUmodule, const char *);
typedef CUresult (*stream_create_fn)(CUstream *, unsigned);
typedef CUresult (*begin_capture_fn)(CUstream, int);
typedef CUresult (*end_capture_fn)(CUstream, void **);
typedef CUresult (*instantiate_fn)(CUgraphExec *, void *, unsigned long long);
typedef CUresult (*synchronize_fn)(void);

static uint64_t least, most;
static unsigned grid;

static uint64_t next_duration(void) {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return most > least ? least + state % (most - least + 1) : least;
}

static void launch(vgpu_fn_cuLaunchKernel call, CUfunction function, CUstream stream) {
    uint64_t spin = next_duration();
    void *parameters[] = {&spin};
    must(call(function, grid, 1, 1, 128, 1, 1, 0, stream, parameters, 0), "cuLaunchKernel");
}

static CUgraphExec graph_of(vgpu_fn_cuLaunchKernel call, CUfunction kernel, CUstream stream) {
    void *graph;
    CUgraphExec ready;
    must(((begin_capture_fn)function("cuStreamBeginCapture_v2"))(stream, 0), "cuStreamBeginCapture");
    for (unsigned i = 0; i < GRAPH_KERNELS; i++) launch(call, kernel, stream);
    must(((end_capture_fn)function("cuStreamEndCapture"))(stream, &graph), "cuStreamEndCapture");
    must(((instantiate_fn)function("cuGraphInstantiateWithFlags"))(&ready, graph, 0), "cuGraphInstantiate");
    return ready;
}

static char *image_of(const char *path) {
    FILE *file = fopen(path, "rb");
    char *image = calloc(1, 1 << 16);
    if (!file || !image || !fread(image, 1, (1 << 16) - 1, file)) exit(2);
    fclose(file);
    return image;
}

int main(int count, char **words) {
    CUmodule module;
    CUfunction kernel;
    CUstream streams[MOST_STREAMS] = {0};
    if (count < 7) return 2;
    least = strtoull(words[2], 0, 10);
    most = strtoull(words[3], 0, 10);
    grid = (unsigned)strtoul(words[4], 0, 10);
    unsigned used = (unsigned)strtoul(words[5], 0, 10);
    use_device(0);
    must(CALL(cuModuleLoadData, "cuModuleLoadData")(&module, image_of(words[1])), "cuModuleLoadData");
    must(((get_function_fn)function("cuModuleGetFunction"))(&kernel, module, "spin_ns"), "cuModuleGetFunction");
    for (unsigned i = 0; i < used && i < MOST_STREAMS; i++)
        must(((stream_create_fn)function("cuStreamCreate"))(&streams[i], 1), "cuStreamCreate");
    vgpu_fn_cuLaunchKernel call = CALL(cuLaunchKernel, "cuLaunchKernel");
    vgpu_fn_cuGraphLaunch launch_graph = CALL(cuGraphLaunch, "cuGraphLaunch");
    synchronize_fn synchronize = (synchronize_fn)function("cuCtxSynchronize");
    CUgraphExec graph = strcmp(words[6], "graph") == 0 ? graph_of(call, kernel, streams[0]) : 0;
    puts("up");
    fflush(stdout);
    for (unsigned i = 0; getppid() != 1; i++) {
        CUstream stream = streams[used ? i % used : 0];
        if (graph) must(launch_graph(graph, stream), "cuGraphLaunch");
        else launch(call, kernel, stream);
        if (strcmp(words[6], "sync") == 0) must(synchronize(), "cuCtxSynchronize");
    }
    return 0;
}
