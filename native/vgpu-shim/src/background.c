/* Repairs dead processes' charges, publishes counters, and watches whether the card is idle. It takes no
 * signal, holds no lock while it calls the vendor's library, and starts with the first context, so a process
 * that never touches a card never has it. */
#include "background.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "attachments.h"
#include "compute.h"
#include "watch.h"
#include "dynamic_linker.h"
#include "graphs.h"
#include "growth.h"
#include "identity.h"
#include "lingering.h"
#include "overhead.h"
#include "pools.h"
#include "swap.h"

#define PERIOD_NS 50000000
#define REPAIR_EVERY 8

/* What pthread_atfork calls; it is in libpthread before glibc 2.34, and absent from musl. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object)
    __attribute__((weak));

static uint32_t started, runs;

void vgpu_forget_parent(void) {
    vgpu_process_begin();
    unsigned count;
    struct vgpu_device *devices = vgpu_all_devices(&count);
    for (unsigned i = 0; i < count; i++) {
        memset(&devices[i].split_lock, 0, sizeof devices[i].split_lock);
        for (unsigned n = 0; n < devices[i].share_count; n++) vgpu_region_forget_slot(&devices[i].shares[n]);
    }
    vgpu_ledger_forget(&vgpu_linear);
    vgpu_ledger_forget(&vgpu_arrays);
    vgpu_ledger_forget(&vgpu_handles);
    vgpu_ledger_forget(&vgpu_maps);
    vgpu_ledger_forget(&vgpu_contexts);
    vgpu_ledger_forget(&vgpu_modules);
    vgpu_pools_forget();
    vgpu_physical_forget();
    vgpu_attachments_forget();
    vgpu_graphs_forget();
    vgpu_overhead_forget();
    vgpu_swap_forget();
    vgpu_identity_forget();
    vgpu_lingering_forget();
    vgpu_cards_forget();
    vgpu_compute_forget();
    started = 0;
    runs = 0;
}

bool vgpu_background_runs(void) { return RELAXED_LOAD(&runs); }

void vgpu_background_prepare(void) {
    int (*register_atfork)(void (*)(void), void (*)(void), void (*)(void)) = 0;
    if (__register_atfork) __register_atfork(0, 0, vgpu_forget_parent, 0);
    else register_atfork = (int (*)(void (*)(void), void (*)(void), void (*)(void)))vgpu_dl()->sym(RTLD_DEFAULT, "pthread_atfork");
    if (register_atfork) register_atfork(0, 0, vgpu_forget_parent);
    vgpu_lingering_prepare();
}

static void *run(void *nothing) {
    struct timespec period = {0, PERIOD_NS};
    unsigned count;
    struct vgpu_device *devices = vgpu_all_devices(&count);
    for (unsigned turn = 0;; turn++) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &period, 0);
        for (unsigned i = 0; i < count; i++) {
            vgpu_watch(&devices[i]);
            if (turn % REPAIR_EVERY) continue;
            vgpu_overhead_measure(&devices[i]);
            vgpu_lingering_repair(&devices[i]);
        }
    }
    return nothing;
}

/* The kernel's own call: pthread_sigmask is in libpthread before glibc 2.32. */
static void set_signals(uint64_t set, uint64_t *old) { syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, old, sizeof set); }

void vgpu_background_start(void) {
    uint32_t no = 0;
    uint64_t old;
    pthread_t thread;
    if (!__atomic_compare_exchange_n(&started, &no, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return;
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))vgpu_dl()->sym(RTLD_DEFAULT, "pthread_create");
    int (*detach)(pthread_t) = (int (*)(pthread_t))vgpu_dl()->sym(RTLD_DEFAULT, "pthread_detach");
    if (!create || !detach) return;
    set_signals(~0ull, &old);
    if (create(&thread, 0, run, 0) == 0) {
        detach(thread);
        RELEASE_STORE(&runs, 1);
    }
    set_signals(old, 0);
}
