/* What a process may do with itself: lives <way>. Each way prints what it found on one line, the same with and
 * without the shim, save for totals. `figures` is "total, result of asking for all of it". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

#define MIB (1ull << 20)
#define THREADS 16

extern char **environ;
static const char *self;
static CUcontext context;

static void figures(const char *who) {
    size_t free, total;
    CUdeviceptr address;
    must(CALL(cuMemGetInfo_v2, "cuMemGetInfo_v2")(&free, &total), "cuMemGetInfo");
    CUresult over = CALL(cuMemAlloc_v2, "cuMemAlloc_v2")(&address, total);
    printf("%s %zu %u\n", who, total, over);
    fflush(stdout);
}

static CUdeviceptr take(uint64_t bytes) {
    CUdeviceptr address;
    must(CALL(cuMemAlloc_v2, "cuMemAlloc_v2")(&address, bytes), "cuMemAlloc");
    return address;
}

static void give(CUdeviceptr address) { must(CALL(cuMemFree_v2, "cuMemFree_v2")(address), "cuMemFree"); }

static void await(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child) exit(2);
    printf("child %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

/* The test looks at the share's accounts here. */
static void rest(void) {
    puts("resting");
    fflush(stdout);
    getchar();
}

static void by_fork(void) {
    context = use_device(0);
    take(10 * MIB);
    pid_t child = fork();
    if (child == 0) {
        context = use_device(0);
        take(20 * MIB);
        figures("forked");
        _exit(0);
    }
    await(child);
    figures("parent");
    rest();
}

/* A copy that the C library knows nothing of, and that the driver's own library may not be used in. */
static void by_bare_clone(void) {
    context = use_device(0);
    CUdeviceptr address = take(10 * MIB);
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        CALL(cuMemFree_v2, "cuMemFree_v2")(address);
        _exit(0);
    }
    await(child);
    figures("parent");
    rest();
}

static void by_spawn(void) {
    char *words[] = {(char *)(uintptr_t)self, "child", 0};
    pid_t child;
    context = use_device(0);
    take(10 * MIB);
    if (posix_spawn(&child, self, 0, 0, words, environ)) exit(2);
    await(child);
    figures("parent");
    rest();
}

static void by_vfork(void) {
    context = use_device(0);
    take(10 * MIB);
    pid_t child = vfork();
    if (child == 0) {
        execl(self, self, "child", (char *)0);
        _exit(2);
    }
    await(child);
    figures("parent");
    rest();
}

static void by_exec(void) {
    context = use_device(0);
    take(10 * MIB);
    execl(self, self, "resting-child", (char *)0);
    exit(2);
}

static void *take_in_thread(void *address) {
    must(((CUresult (*)(CUcontext))function("cuCtxSetCurrent"))(context), "cuCtxSetCurrent");
    *(CUdeviceptr *)address = take(MIB);
    return 0;
}

/* Threads end, and what they took is given back by another. */
static void by_threads(void) {
    CUdeviceptr addresses[THREADS];
    pthread_t threads[THREADS];
    context = use_device(0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, take_in_thread, &addresses[i]);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
        for (int i = 0; i < THREADS; i++) give(addresses[i]);
    }
    take(10 * MIB);
    figures("threads");
    rest();
}

static void by_dlclose(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    context = use_device(0);
    take(10 * MIB);
    for (int i = 0; i < 4; i++) {
        void *again = dlopen("libcuda.so.1", RTLD_NOW);
        figures("open");
        dlclose(again);
    }
    dlclose(library);
    figures("closed");
    rest();
}

int main(int count, char **words) {
    static const struct {
        const char *name;
        void (*run)(void);
    } ways[] = {{"fork", by_fork},   {"bare-clone", by_bare_clone}, {"spawn", by_spawn},    {"vfork", by_vfork},
                {"exec", by_exec},   {"threads", by_threads},       {"dlclose", by_dlclose}};
    self = words[0];
    if (count > 1 && strstr(words[1], "child")) {
        context = use_device(0);
        take(10 * MIB);
        figures("child");
        if (strcmp(words[1], "child") != 0) rest();
        return 0;
    }
    for (unsigned i = 0; count > 1 && i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, words[1]) == 0) {
            ways[i].run();
            return 0;
        }
    return 2;
}
