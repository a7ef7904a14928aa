/* launcher <PTX of spin_ns> <threads> <launches>: threads that launch short kernels on streams of their own, and as
 * graphs, and load and unload modules meanwhile. Prints how many launches succeeded. */
#include <pthread.h>
#include <stdint.h>

#include "driver.h"

#define KERNEL_NS 20000ull
#define GRAPH_EVERY 16
#define MODULE_EVERY 64

typedef CUresult (*get_function)(CUfunction *, CUmodule, const char *);
typedef CUresult (*create_stream)(CUstream *, unsigned);
typedef CUresult (*synchronize)(CUstream);
typedef CUresult (*begin_capture)(CUstream, unsigned);
typedef CUresult (*end_capture)(CUstream, CUgraph *);
typedef CUresult (*instantiate)(CUgraphExec *, CUgraph, unsigned long long);

static const char *image;
static int launches;
static CUcontext context;
static long done;

static CUmodule load(void) {
    CUmodule module;
    must(CALL(cuModuleLoad, "cuModuleLoad")(&module, image), "cuModuleLoad");
    return module;
}

static CUfunction kernel_of(CUmodule module) {
    CUfunction kernel;
    must(((get_function)function("cuModuleGetFunction"))(&kernel, module, "spin_ns"), "cuModuleGetFunction");
    return kernel;
}

static void launch(CUfunction kernel, CUstream stream) {
    uint64_t ns = KERNEL_NS;
    void *parameters[] = {&ns};
    must(CALL(cuLaunchKernel, "cuLaunchKernel")(kernel, 1, 1, 1, 32, 1, 1, 0, stream, parameters, 0), "cuLaunchKernel");
    __atomic_fetch_add(&done, 1, __ATOMIC_RELAXED);
}

static void launch_as_graph(CUfunction kernel, CUstream stream) {
    CUgraph graph;
    CUgraphExec program;
    must(((begin_capture)function("cuStreamBeginCapture_v2"))(stream, 1), "cuStreamBeginCapture");
    launch(kernel, stream);
    launch(kernel, stream);
    must(((end_capture)function("cuStreamEndCapture"))(stream, &graph), "cuStreamEndCapture");
    must(((instantiate)function("cuGraphInstantiateWithFlags"))(&program, graph, 0), "cuGraphInstantiate");
    must(CALL(cuGraphLaunch, "cuGraphLaunch")(program, stream), "cuGraphLaunch");
    must(((synchronize)function("cuStreamSynchronize"))(stream), "cuStreamSynchronize");
    must(((CUresult (*)(CUgraphExec))function("cuGraphExecDestroy"))(program), "cuGraphExecDestroy");
    must(((CUresult (*)(CUgraph))function("cuGraphDestroy"))(graph), "cuGraphDestroy");
}

static void *run(void *nothing) {
    CUstream stream;
    must(((CUresult (*)(CUcontext))function("cuCtxSetCurrent"))(context), "cuCtxSetCurrent");
    must(((create_stream)function("cuStreamCreate"))(&stream, 1), "cuStreamCreate");
    CUmodule module = load();
    for (int i = 1; i <= launches; i++) {
        launch(kernel_of(module), stream);
        if (i % GRAPH_EVERY == 0) launch_as_graph(kernel_of(module), stream);
        if (i % MODULE_EVERY) continue;
        must(((synchronize)function("cuStreamSynchronize"))(stream), "cuStreamSynchronize");
        must(((CUresult (*)(CUmodule))function("cuModuleUnload"))(module), "cuModuleUnload");
        module = load();
    }
    must(((synchronize)function("cuStreamSynchronize"))(stream), "cuStreamSynchronize");
    return nothing;
}

int main(int count, char **words) {
    pthread_t threads[32];
    if (count != 4) return 2;
    image = words[1];
    int thread_count = atoi(words[2]);
    launches = atoi(words[3]);
    if (thread_count > 32) return 2;
    context = use_device(0);
    for (int i = 0; i < thread_count; i++) pthread_create(&threads[i], 0, run, 0);
    for (int i = 0; i < thread_count; i++) pthread_join(threads[i], 0);
    printf("%ld\n", done);
    return 0;
}
