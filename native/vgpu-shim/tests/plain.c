/* A program that has nothing to do with cards; built against musl, and statically too. It does what a preloaded
 * library could break: looks names up, starts threads, forks, and reports its descriptors. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *in_thread(void *argument) { return argument; }

int main(void) {
    pthread_t thread;
    void *result = 0;
    int status = 0;
    size_t (*length)(const char *) = (size_t (*)(const char *))dlsym(RTLD_DEFAULT, "strlen");
    printf("strlen %zu\n", length ? length("four") : 0);
    printf("missing %s\n", dlsym(RTLD_DEFAULT, "cuMemAlloc_v2") ? "found" : "nothing");
    printf("library %s\n", dlopen("libcuda.so.1", RTLD_NOW) ? "found" : "nothing");
    fflush(stdout);
    if (pthread_create(&thread, 0, in_thread, &status) || pthread_join(thread, &result)) return 2;
    printf("thread %s\n", result == &status ? "same" : "different");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) _exit(7);
    waitpid(child, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
    int file = dup(0);
    printf("descriptor %d\n", file);
    return 0;
}
