/* Included ahead of the sources that look names up, in builds with a sanitizer: its runtime asks dlsym for the C
 * library's functions before it has them, so a look-up must not come back to the runtime's own versions of them. */
#ifndef EARLY_H
#define EARLY_H

#include <link.h>
#include <stddef.h>
#include <string.h>

static inline int early_strncmp(const char *a, const char *b, size_t size) {
    for (; size && *a && *a == *b; size--) a++, b++;
    return size ? (unsigned char)*a - (unsigned char)*b : 0;
}

static inline int early_strcmp(const char *a, const char *b) { return early_strncmp(a, b, (size_t)-1); }

static inline size_t early_strlen(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

static inline char *early_strrchr(const char *text, int wanted) {
    const char *found = 0;
    for (;; text++) {
        if (*text == (char)wanted) found = text;
        if (!*text) return (char *)(size_t)found;
    }
}

static inline void *early_memset(void *at, int value, size_t size) {
    for (volatile char *byte = at; size; size--) *byte++ = (char)value;
    return at;
}

/* The loaded libraries by the debugger's list; one program header each, which is all that the shim reads. */
static inline int early_iterate(int (*visit)(struct dl_phdr_info *, size_t, void *), void *argument) {
    for (struct link_map *at = _r_debug.r_map; at; at = at->l_next) {
        ElfW(Phdr) dynamic = {.p_type = PT_DYNAMIC, .p_vaddr = (ElfW(Addr))at->l_ld - at->l_addr};
        struct dl_phdr_info info = {.dlpi_addr = at->l_addr, .dlpi_name = at->l_name, .dlpi_phdr = &dynamic, .dlpi_phnum = 1};
        int result = visit(&info, sizeof info, argument);
        if (result) return result;
    }
    return 0;
}

#define strcmp early_strcmp
#define strncmp early_strncmp
#define strlen early_strlen
#define strrchr early_strrchr
#define memset early_memset
#define dl_iterate_phdr early_iterate

#endif
