/* Threads that allocate and free at random: racer <threads> <rounds> <bytes per thread>. No thread ever holds
 * more than its bytes. Prints what they met as JSON. */
#include <pthread.h>
#include <stdint.h>

#include "driver.h"

#define PLACES 8
#define STEP 512 /* the card rounds up to it: what the card counts is then what was asked for */

static int rounds;
static uint64_t allowance;
static CUcontext context;
static long succeeded, refused;

struct holder {
    CUdeviceptr addresses[PLACES];
    uint64_t sizes[PLACES], total, state;
};

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void give_back(struct holder *holder, unsigned place) {
    if (!holder->addresses[place]) return;
    must(CALL(cuMemFree_v2, "cuMemFree_v2")(holder->addresses[place]), "cuMemFree");
    holder->total -= holder->sizes[place];
    holder->addresses[place] = 0;
}

static void take(struct holder *holder, unsigned place) {
    uint64_t left = allowance - holder->total, size = next_random(&holder->state) % (allowance / 2) + 1;
    size = (size + STEP - 1) / STEP * STEP;
    if (size > left) size = left;
    if (!size) return;
    CUresult result = CALL(cuMemAlloc_v2, "cuMemAlloc_v2")(&holder->addresses[place], size);
    if (result != CUDA_SUCCESS) {
        if (result != CUDA_ERROR_OUT_OF_MEMORY) must(result, "cuMemAlloc");
        holder->addresses[place] = 0;
        __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
        return;
    }
    holder->sizes[place] = size;
    holder->total += size;
    __atomic_fetch_add(&succeeded, 1, __ATOMIC_RELAXED);
}

static void *run(void *seed) {
    struct holder holder = {.state = (uint64_t)(uintptr_t)seed * 7919 + 1};
    must(((CUresult (*)(CUcontext))function("cuCtxSetCurrent"))(context), "cuCtxSetCurrent");
    for (int i = 0; i < rounds; i++) {
        unsigned place = (unsigned)(next_random(&holder.state) % PLACES);
        give_back(&holder, place);
        take(&holder, place);
    }
    for (unsigned place = 0; place < PLACES; place++) give_back(&holder, place);
    return 0;
}

int main(int count, char **words) {
    pthread_t threads[64];
    int thread_count = count > 1 ? atoi(words[1]) : 2;
    rounds = count > 2 ? atoi(words[2]) : 1000;
    allowance = count > 3 ? strtoull(words[3], 0, 10) : 1u << 30;
    context = use_device(0);
    puts("ready");
    fflush(stdout);
    getchar(); /* the test starts all racers at once */
    for (int i = 0; i < thread_count; i++) pthread_create(&threads[i], 0, run, (void *)(uintptr_t)(i + 1));
    for (int i = 0; i < thread_count; i++) pthread_join(threads[i], 0);
    printf("{\"succeeded\": %ld, \"refused\": %ld}\n", succeeded, refused);
    fflush(stdout);
    getchar(); /* none leaves before all have raced: a card counts an ended process until it notices */
    return 0;
}
