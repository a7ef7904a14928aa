/* The second way in: dlopen and dlsym. Prints one line per question, "name answer", for a test to compare
 * with and without the shim. */
#define _GNU_SOURCE
#include <string.h>

#include "driver.h"

/* Which file an address is in, without its folder. */
static const char *home(void *address) {
    Dl_info info;
    if (!address) return "nothing";
    if (!dladdr(address, &info) || !info.dli_fname) return "unknown";
    const char *slash = strrchr(info.dli_fname, '/');
    return slash ? slash + 1 : info.dli_fname;
}

static void ask(const char *question, void *answer) { printf("%s %s\n", question, home(answer)); }

int main(void) {
    ask("default-before", dlsym(RTLD_DEFAULT, "cuMemAlloc_v2"));
    ask("next-before", dlsym(RTLD_NEXT, "cuMemAlloc_v2"));
    void *local = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    ask("handle-hooked", dlsym(local, "cuMemAlloc_v2"));
    ask("handle-unhooked", dlsym(local, "cuMemHostAlloc"));
    ask("handle-missing", dlsym(local, "cuNoSuchFunction"));
    ask("default-local", dlsym(RTLD_DEFAULT, "cuMemAlloc_v2"));
    dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    ask("default-global", dlsym(RTLD_DEFAULT, "cuMemAlloc_v2"));
    ask("next-global", dlsym(RTLD_NEXT, "cuMemAlloc_v2"));
    ask("default-libc", dlsym(RTLD_DEFAULT, "printf"));
    ask("next-libc", dlsym(RTLD_NEXT, "printf"));
    ask("dlvsym-missing", dlvsym(RTLD_DEFAULT, "printf", "NO_SUCH_VERSION"));
    printf("repeated %s\n", dlsym(local, "cuMemAlloc_v2") == dlsym(local, "cuMemAlloc_v2") ? "same" : "different");
    dlerror();
    dlsym(local, "cuNoSuchFunction");
    printf("dlerror %s\n", dlerror() ? "set" : "unset");
    return 0;
}
