/* cuGetProcAddress: the driver decides which form of a function a program gets; we answer with its hook.
 *
 * Programs ask for the same few hundred names again and again, and most are not hooked: what was found out for
 * an answer is kept, in a place that its address tells. A line is written once and never changed. */
#include <string.h>

#include "vgpu.h"

/* The first row of the name; rows of one name lie together, older versions first, legacy stream first. */
static unsigned first_row(const char *name) {
    unsigned low = 0, high = vgpu_version_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (strcmp(vgpu_versions[middle].name, name) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

static enum vgpu_function newest_form(const char *name, int version, bool per_thread) {
    enum vgpu_function found = VGPU_FUNCTION_COUNT;
    bool thread_form = false;
    int since = -1;
    for (unsigned i = first_row(name); i < vgpu_version_count && !strcmp(vgpu_versions[i].name, name); i++) {
        const struct vgpu_version_row *row = &vgpu_versions[i];
        bool better = (row->per_thread && !thread_form) || row->version > since;
        if (row->version > version || (row->per_thread && !per_thread) || (thread_form && !row->per_thread)) continue;
        if (!better) continue;
        found = row->function;
        thread_form = row->per_thread;
        since = row->version;
    }
    return found;
}

/* The hook of what the driver answered to `name`; the driver's answer itself where that form has none. */
static void *hook_of(const char *name, void *answer, int version, uint64_t flags) {
    bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    enum vgpu_function id = newest_form(name, version, per_thread);
    if (id == VGPU_FUNCTION_COUNT) id = vgpu_hook_named(name); /* some ask for an exported name, such as _v2 */
    if (id == VGPU_FUNCTION_COUNT || !vgpu_functions[id].entry) return answer;
    if (!vgpu_is_available(id)) __atomic_store_n(&vgpu_real_functions[id], (vgpu_address)answer, __ATOMIC_RELAXED);
    return (void *)vgpu_functions[id].entry;
}

#define LINES_LOG2 10
#define LONGEST_KEPT 39

enum line_state { LINE_FREE, LINE_TAKEN, LINE_KEPT };

struct line {
    uint32_t state;
    uint32_t version_and_flags;
    const void *answer;
    void *given; /* the hook, or the answer itself */
    char name[LONGEST_KEPT + 1];
};

static struct line lines[1u << LINES_LOG2];

static struct line *line_of(const void *answer) {
    return &lines[(uint64_t)answer * 0x9e3779b97f4a7c15ull >> (64 - LINES_LOG2)];
}

static uint32_t version_and_flags(int version, uint64_t flags) { return (uint32_t)version << 4 | (uint32_t)(flags & 15); }

static void keep(struct line *line, const char *name, const void *answer, uint32_t wanted, void *given) {
    uint32_t free = LINE_FREE;
    size_t length = strlen(name);
    if (length > LONGEST_KEPT || RELAXED_LOAD(&line->state) != LINE_FREE) return;
    if (!__atomic_compare_exchange_n(&line->state, &free, LINE_TAKEN, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    memcpy(line->name, name, length + 1);
    line->answer = answer;
    line->version_and_flags = wanted;
    line->given = given;
    RELEASE_STORE(&line->state, LINE_KEPT);
}

static void *given_for(const char *name, void *answer, int version, uint64_t flags) {
    struct line *line = line_of(answer);
    uint32_t wanted = version_and_flags(version, flags);
    if (VGPU_LIKELY(ACQUIRE_LOAD(&line->state) == LINE_KEPT && line->answer == answer &&
                    line->version_and_flags == wanted && strcmp(line->name, name) == 0))
        return line->given;
    void *given = hook_of(name, answer, version, flags);
    keep(line, name, answer, wanted, given);
    return given;
}

CUresult vgpu_get_proc_address(enum vgpu_function id, const char *symbol, void **pfn, int version, cuuint64_t flags) {
    CUresult result = REAL_AS(cuGetProcAddress, id)(symbol, pfn, version, flags);
    if (result == CUDA_SUCCESS && symbol && pfn && *pfn) *pfn = given_for(symbol, *pfn, version, flags);
    return result;
}

CUresult vgpu_get_proc_address_v2(enum vgpu_function id, const char *symbol, void **pfn, int version, cuuint64_t flags,
                                  CUdriverProcAddressQueryResult *status) {
    CUresult result = REAL_AS(cuGetProcAddress_v2, id)(symbol, pfn, version, flags, status);
    if (result == CUDA_SUCCESS && symbol && pfn && *pfn) *pfn = given_for(symbol, *pfn, version, flags);
    return result;
}
