/* Finds dlopen, dlsym, dlvsym and dladdr by walking the loaded libraries' symbol tables: they live in
 * libdl before glibc 2.34 and in libc since, under versions that differ by architecture. */
#include "dynamic_linker.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

struct symbols {
    const ElfW(Sym) *table;
    const char *names;
    const uint32_t *gnu_hash;
    const uint32_t *hash;
};

/* glibc adds the load address to these entries in place, musl and the vDSO do not. */
static uintptr_t relocated(const struct dl_phdr_info *object, ElfW(Addr) value) {
    return value < object->dlpi_addr ? object->dlpi_addr + value : value;
}

static int read_symbols(const struct dl_phdr_info *object, struct symbols *symbols) {
    const ElfW(Dyn) *entry = 0;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    memset(symbols, 0, sizeof *symbols);
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        uintptr_t at = relocated(object, entry->d_un.d_ptr);
        if (entry->d_tag == DT_SYMTAB) symbols->table = (const ElfW(Sym) *)at;
        if (entry->d_tag == DT_STRTAB) symbols->names = (const char *)at;
        if (entry->d_tag == DT_GNU_HASH) symbols->gnu_hash = (const uint32_t *)at;
        if (entry->d_tag == DT_HASH) symbols->hash = (const uint32_t *)at;
    }
    return symbols->table && symbols->names && (symbols->gnu_hash || symbols->hash);
}

static int is_named(const struct symbols *symbols, uint32_t index, const char *name) {
    const ElfW(Sym) *symbol = &symbols->table[index];
    return symbol->st_shndx != SHN_UNDEF && strcmp(symbols->names + symbol->st_name, name) == 0;
}

static uint32_t find_by_gnu_hash(const struct symbols *symbols, const char *name) {
    const uint32_t *head = symbols->gnu_hash;
    uint32_t buckets = head[0], first = head[1], words = head[2], hash = 5381;
    for (const char *c = name; *c; c++) hash = hash * 33 + (unsigned char)*c;
    const uint32_t *bucket = head + 4 + words * (sizeof(ElfW(Addr)) / 4);
    uint32_t index = buckets ? bucket[hash % buckets] : 0;
    const uint32_t *chain = bucket + buckets;
    for (; index >= first && index; index++) {
        if ((chain[index - first] | 1) == (hash | 1) && is_named(symbols, index, name)) return index;
        if (chain[index - first] & 1) break;
    }
    return 0;
}

static uint32_t find_by_hash(const struct symbols *symbols, const char *name) {
    for (uint32_t index = 1; index < symbols->hash[1]; index++)
        if (is_named(symbols, index, name)) return index;
    return 0;
}

static void *find(const struct dl_phdr_info *object, const struct symbols *symbols, const char *name) {
    uint32_t index = symbols->gnu_hash ? find_by_gnu_hash(symbols, name) : find_by_hash(symbols, name);
    return index ? (void *)(object->dlpi_addr + symbols->table[index].st_value) : 0;
}

static int is_c_library(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    return strncmp(base, "libc.so", 7) == 0 || strncmp(base, "libdl.so", 8) == 0 ||
           strncmp(base, "libc-", 5) == 0 || strncmp(base, "libdl-", 6) == 0 ||
           strncmp(base, "ld-musl-", 8) == 0 || strncmp(base, "libc.musl-", 10) == 0;
}

static int visit(struct dl_phdr_info *object, size_t size, void *argument) {
    struct vgpu_dl *dl = argument;
    struct symbols symbols;
    (void)size;
    if (!object->dlpi_name || !is_c_library(object->dlpi_name) || !read_symbols(object, &symbols)) return 0;
    if (!dl->open) dl->open = (void *(*)(const char *, int))find(object, &symbols, "dlopen");
    if (!dl->sym) dl->sym = (void *(*)(void *, const char *))find(object, &symbols, "dlsym");
    if (!dl->vsym) dl->vsym = (void *(*)(void *, const char *, const char *))find(object, &symbols, "dlvsym");
    if (!dl->addr) dl->addr = (int (*)(const void *, Dl_info *))find(object, &symbols, "dladdr");
    return 0;
}

static void *no_open(const char *file, int mode) { return (void)file, (void)mode, (void *)0; }
static void *no_sym(void *handle, const char *name) { return (void)handle, (void)name, (void *)0; }
static void *no_vsym(void *h, const char *name, const char *v) { return (void)h, (void)name, (void)v, (void *)0; }
static int no_addr(const void *address, Dl_info *info) { return (void)address, (void)info, 0; }

static struct vgpu_dl found;
static int complete;

const struct vgpu_dl *vgpu_dl(void) {
    static const struct vgpu_dl none = {no_open, no_sym, no_vsym, no_addr};
    if (__builtin_expect(__atomic_load_n(&complete, __ATOMIC_ACQUIRE), 1)) return &found;
    struct vgpu_dl seen = {0, 0, 0, 0};
    dl_iterate_phdr(visit, &seen);
    if (!seen.open || !seen.sym || !seen.addr) return &none; /* libdl may be loaded later */
    if (!seen.vsym) seen.vsym = no_vsym;
    found = seen; /* every thread that gets here writes the same values */
    __atomic_store_n(&complete, 1, __ATOMIC_RELEASE);
    return &found;
}
