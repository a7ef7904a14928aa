/* A share from words: VGPU_SHARE_<KEY>=uuid=GPU-...,memory=4294967296,cores=30,policy=fixed and, where wanted,
 * priority=high, swap=<bytes of the host's memory>, onerror=deny (nothing is granted where the share cannot be made).
 *
 * Only where no share directory is mounted. The files are made where the container's processes find the
 * same ones, and appear at once in full: whoever loses the race uses the winner's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shares.h"

struct words {
    char uuid[VGPU_UUID_SIZE];
    uint64_t memory, swap;
    uint32_t cores, policy, priority, onerror;
};

static bool number(const char *text, uint64_t limit, uint64_t *value) {
    char *end;
    errno = 0;
    unsigned long long read = strtoull(text, &end, 10);
    *value = read;
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && read <= limit;
}

static bool choice(const char *text, const char *const *names, uint32_t *value) {
    for (uint32_t i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0) {
            *value = i;
            return true;
        }
    return false;
}

static bool set_word(struct words *words, const char *name, const char *value) {
    static const char *const policies[] = {"fixed", "burst", "shared", 0};
    static const char *const priorities[] = {"low", "high", 0};
    static const char *const answers[] = {"pass", "deny", 0};
    uint64_t read;
    if (strcmp(name, "uuid") == 0)
        return *value && snprintf(words->uuid, sizeof words->uuid, "%s", value) < (int)sizeof words->uuid;
    if (strcmp(name, "memory") == 0) return number(value, UINT64_MAX, &words->memory);
    if (strcmp(name, "swap") == 0) return number(value, INT64_MAX, &words->swap);
    if (strcmp(name, "onerror") == 0) return choice(value, answers, &words->onerror);
    if (strcmp(name, "policy") == 0) return choice(value, policies, &words->policy);
    if (strcmp(name, "priority") == 0) return choice(value, priorities, &words->priority);
    if (strcmp(name, "cores") != 0 || !number(value, 100, &read)) return false;
    words->cores = (uint32_t)read;
    return true;
}

static bool parse(const char *text, struct words *words) {
    char copy[512], *rest = copy;
    memset(words, 0, sizeof *words);
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy) return false;
    for (char *part; (part = strsep(&rest, ","));) {
        char *equals = strchr(part, '=');
        if (!equals) return false;
        *equals = 0;
        if (!set_word(words, part, equals + 1)) return false;
    }
    return words->uuid[0] && words->memory;
}

/* A key names a folder: nothing in it may climb out of its parent. */
static bool is_key(const char *key) {
    size_t length = strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return length && !key[length] && length < VGPU_SHARE_KEY_SIZE;
}

/* A private folder: ours, a real folder, open to nobody else. */
static bool private_root(char *root, size_t size) {
    const char *temporary = vgpu_environment("TMPDIR");
    struct stat status;
    int length = snprintf(root, size, "%s/vgpu-%u", temporary ? temporary : "/tmp", (unsigned)geteuid());
    errno = ENAMETOOLONG;
    if (length >= (int)size || (mkdir(root, 0700) < 0 && errno != EEXIST)) return false;
    int folder = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool private = folder >= 0 && vgpu_file_status(folder, &status) && status.st_uid == geteuid() &&
                   (status.st_mode & 077) == 0;
    if (folder >= 0) close(folder);
    errno = private ? 0 : EACCES;
    return private;
}

bool vgpu_environment_root(char *root, size_t size) {
    extern char **environ;
    const char *named = vgpu_environment("VGPU_SHARES_DIR");
    if (named) return snprintf(root, size, "%s", named) < (int)size;
    for (char **variable = environ; variable && *variable; variable++)
        if (strncmp(*variable, "VGPU_SHARE_", 11) == 0) return private_root(root, size);
    return false;
}

static int write_all(int file, const void *content, size_t length, size_t size) {
    if (write(file, content, length) != (ssize_t)length) return -EIO;
    return ftruncate(file, (off_t)size) < 0 ? -errno : 0;
}

/* The file appears with all its content, or was there before. */
static int make_file(const char *folder, const char *name, const void *content, size_t length, size_t size) {
    char path[VGPU_PATH_SIZE], fresh[VGPU_PATH_SIZE];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return -ENAMETOOLONG;
    if (access(path, F_OK) == 0) return 0;
    /* Containers that share the folder may share process ids too. */
    int length_of_name = snprintf(fresh, sizeof fresh, "%s/.%s.%d.%llx", folder, name, (int)getpid(),
                                  (unsigned long long)vgpu_now_ns());
    if (length_of_name >= (int)sizeof fresh) return -ENAMETOOLONG;
    int file = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0) return -errno;
    int result = write_all(file, content, length, size);
    close(file);
    if (result == 0 && link(fresh, path) < 0 && errno != EEXIST) result = -errno;
    unlink(fresh);
    return result;
}

static int make_usage(const char *folder, const char *key) {
    struct vgpu_usage *head = calloc(1, sizeof *head);
    if (!head) return -ENOMEM;
    head->magic = VGPU_USAGE_MAGIC;
    head->abi_major = VGPU_ABI_MAJOR;
    head->abi_minor = VGPU_ABI_MINOR;
    head->size = VGPU_USAGE_SIZE;
    head->header_size = VGPU_USAGE_HEADER_SIZE;
    head->slot_size = VGPU_USAGE_SLOT_SIZE;
    head->slot_count = VGPU_USAGE_SLOTS;
    snprintf(head->share_key, sizeof head->share_key, "%s", key);
    int result = make_file(folder, "usage", head, VGPU_USAGE_HEADER_SIZE, VGPU_USAGE_SIZE);
    free(head);
    return result;
}

static int make_limits(const char *folder, const char *key, const struct words *words) {
    struct vgpu_limits limits;
    memset(&limits, 0, sizeof limits);
    limits.magic = VGPU_LIMITS_MAGIC;
    limits.abi_major = VGPU_ABI_MAJOR;
    limits.abi_minor = VGPU_ABI_MINOR;
    limits.size = VGPU_LIMITS_SIZE;
    memcpy(limits.device_uuid, words->uuid, sizeof limits.device_uuid);
    snprintf(limits.share_key, sizeof limits.share_key, "%s", key);
    limits.memory_guaranteed_bytes = limits.memory_current_bytes = words->memory;
    limits.cores_guaranteed = limits.cores_current = words->cores;
    limits.device_cores = 100;
    limits.compute_policy = words->policy;
    limits.priority = words->priority;
    limits.swap_bytes = words->swap;
    limits.flags = (words->swap ? VGPU_FLAG_OVERSUBSCRIBE : 0) | (words->onerror ? VGPU_FLAG_DENY_ON_ERROR : 0);
    return make_file(folder, "limits", &limits, sizeof limits, sizeof limits);
}

bool vgpu_environment_denies(const char *variable, char uuid[VGPU_UUID_SIZE]) {
    struct words words;
    const char *equals = strchr(variable, '=');
    if (!equals || !parse(equals + 1, &words) || !words.onerror) return false;
    memcpy(uuid, words.uuid, VGPU_UUID_SIZE);
    return true;
}

int vgpu_environment_share(const char *variable, char *folder, size_t size) {
    char root[VGPU_PATH_SIZE], key[VGPU_SHARE_KEY_SIZE];
    struct words words;
    const char *equals = strchr(variable, '=');
    if (!equals || (size_t)(equals - variable) >= sizeof key) return -EINVAL;
    memcpy(key, variable, (size_t)(equals - variable));
    key[equals - variable] = 0;
    if (!is_key(key) || !parse(equals + 1, &words)) return -EINVAL;
    errno = ENAMETOOLONG;
    if (!vgpu_environment_root(root, sizeof root)) return -errno;
    if (snprintf(folder, size, "%s/%s", root, key) >= (int)size) return -ENAMETOOLONG;
    if ((mkdir(root, 0700) < 0 && errno != EEXIST) || (mkdir(folder, 0700) < 0 && errno != EEXIST)) return -errno;
    int result = make_usage(folder, key);
    return result < 0 ? result : make_limits(folder, key, &words);
}
