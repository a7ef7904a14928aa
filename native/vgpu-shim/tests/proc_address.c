/* The third way in: cuGetProcAddress and its second form. Prints, per name, version and flags, the result,
 * the status and which exported symbol's address came back. */
#include "driver.h"

static const struct {
    const char *name;
    int version;
    unsigned long flags;
} questions[] = {
    {"cuMemAlloc", 2000, 0},        {"cuMemAlloc", 3020, 0},         {"cuMemAlloc", 12000, 0},
    {"cuLaunchKernel", 4000, 0},    {"cuLaunchKernel", 12000, 1},    {"cuLaunchKernel", 12000, 2},
    {"cuLaunchKernel", 1000, 0},    {"cuMemAllocAsync", 12000, 2},   {"cuMemAllocAsync", 11020, 0},
    {"cuMemAllocAsync", 10000, 0},  {"cuCtxCreate", 11040, 0},       {"cuCtxCreate", 3020, 0},
    {"cuGetProcAddress", 11030, 0}, {"cuGetProcAddress", 12000, 0},  {"cuNoSuchFunction", 12000, 0},
    {"cuMemHostAlloc", 12000, 0},   {"cuDeviceTotalMem", 12000, 0},  {"cuGraphLaunch", 12000, 2},
};

static const char *const symbols[] = {
    "cuMemAlloc", "cuMemAlloc_v2", "cuLaunchKernel", "cuLaunchKernel_ptsz", "cuMemAllocAsync", "cuMemAllocAsync_ptsz",
    "cuCtxCreate_v2", "cuCtxCreate_v3", "cuGetProcAddress", "cuGetProcAddress_v2", "cuMemHostAlloc",
    "cuDeviceTotalMem_v2", "cuGraphLaunch", "cuGraphLaunch_ptsz",
};

static const char *symbol_at(void *address) {
    if (!address) return "nothing";
    for (unsigned i = 0; i < sizeof symbols / sizeof *symbols; i++)
        if (function(symbols[i]) == address) return symbols[i];
    return "another";
}

int main(void) {
    vgpu_fn_cuGetProcAddress_v2 ask = CALL(cuGetProcAddress_v2, "cuGetProcAddress_v2");
    use_device(0);
    for (unsigned i = 0; i < sizeof questions / sizeof *questions; i++) {
        void *answer = 0;
        CUdriverProcAddressQueryResult status = 99;
        CUresult result = ask(questions[i].name, &answer, questions[i].version, questions[i].flags, &status);
        printf("%s %d %lu: %u %u %s\n", questions[i].name, questions[i].version, questions[i].flags, result, status,
               symbol_at(answer));
    }
    return 0;
}
