/* Finds the shares: folders that the node plugin mounted, or what the environment says in a bare container.
 *
 * Where the mounted folder exists nothing else counts, so that a program cannot point the shim elsewhere
 * or add to its share by setting a variable. */
#include "shares.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "background.h"

#define MOUNTED_SHARES "/run/vgpu/shares"
#define VARIABLE_PREFIX "VGPU_SHARE_"

extern char **environ;

static struct vgpu_device devices[VGPU_MAX_DEVICES];
static unsigned device_count;

/* Who attaches: 0 nobody yet, a process id, or ATTACHED. Not a lock: a child forked amid it could never take it. */
#define ATTACHED (-1)
static int32_t attaching;

static struct vgpu_device *find_device(const char *uuid) {
    for (unsigned i = 0; i < device_count; i++)
        if (strcasecmp(devices[i].uuid, uuid) == 0) return &devices[i];
    return 0;
}

static struct vgpu_device *device_for(const char *uuid) {
    struct vgpu_device *device = find_device(uuid);
    if (device || device_count == VGPU_MAX_DEVICES) return device;
    device = &devices[device_count++];
    snprintf(device->uuid, sizeof device->uuid, "%s", uuid);
    return device;
}

/* Adds the share in `folder`. One that cannot be enforced is told of, and refuses if its limits say so. */
static void add_share(const char *folder) {
    struct vgpu_region region;
    int result = vgpu_region_map(&region, folder);
    if (result < 0) vgpu_log(VGPU_LOG_ERROR, "share %s cannot be used: %s", folder, strerror(-result));
    if (!region.limits) return;
    vgpu_log_level_from_limits(region.limits->log_level);
    struct vgpu_device *device = device_for(region.limits->device_uuid);
    if (!device || device->share_count == VGPU_MAX_SHARES) {
        vgpu_log(VGPU_LOG_ERROR, "share %s is one too many in this container", folder);
        return;
    }
    if (result < 0) {
        device->refuses |= (region.limits->flags & VGPU_FLAG_DENY_ON_ERROR) != 0;
        return;
    }
    device->shares[device->share_count++] = region;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

/* Whether the node has mounted the share: its limits are read-only, and no tenant can make a mount. A folder that a
 * program has made beside it would otherwise add to what it may have. */
static bool is_mounted(const char *folder) {
    char path[VGPU_PATH_SIZE];
    struct statfs status;
    if (snprintf(path, sizeof path, "%s/limits", folder) >= (int)sizeof path) return false;
    return statfs(path, &status) < 0 || (status.f_flags & ST_RDONLY);
}

static void add_mounted_share(const char *folder) {
    if (is_mounted(folder)) add_share(folder);
    else vgpu_log(VGPU_LOG_ERROR, "share %s is left out: its limits are not mounted read-only", folder);
}

/* Adds the shares in `root` in the order of their keys: every process of the container walks the same way. */
static void add_folder(const char *root, void (*add)(const char *folder)) {
    struct dirent **entries = 0;
    int count = scandir(root, &entries, 0, by_name);
    for (int i = 0; i < count; i++) {
        char folder[VGPU_PATH_SIZE];
        int length = snprintf(folder, sizeof folder, "%s/%s", root, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && length < (int)sizeof folder) add(folder);
        free(entries[i]);
    }
    free(entries);
}

static void make_share_from_words(const char *variable, const char *words) {
    char folder[VGPU_PATH_SIZE], uuid[VGPU_UUID_SIZE];
    int result = vgpu_environment_share(words, folder, sizeof folder);
    if (result == 0) return;
    vgpu_log(VGPU_LOG_ERROR, "%s makes no share: %s", variable, strerror(-result));
    struct vgpu_device *device = vgpu_environment_denies(words, uuid) ? device_for(uuid) : 0;
    if (device) device->refuses = true;
}

static void make_shares_from_environment(void) {
    for (char **variable = environ; variable && *variable; variable++)
        if (strncmp(*variable, VARIABLE_PREFIX, strlen(VARIABLE_PREFIX)) == 0)
            make_share_from_words(*variable, *variable + strlen(VARIABLE_PREFIX));
}

static size_t describe(char *text, size_t size, const struct vgpu_device *device, const struct vgpu_limits *limits) {
    static const char *const policies[] = {"fixed", "burst", "shared"};
    char swap[40] = "";
    if (limits->flags & VGPU_FLAG_OVERSUBSCRIBE)
        snprintf(swap, sizeof swap, ", swap %llu bytes", (unsigned long long)limits->swap_bytes);
    return (size_t)snprintf(text, size, "; %.63s of %s: memory %llu bytes%s, cores %u %%, policy %s, priority %s",
                            limits->share_key, device->uuid, (unsigned long long)limits->memory_current_bytes, swap,
                            limits->cores_current,
                            limits->compute_policy < 3 ? policies[limits->compute_policy] : "unknown",
                            limits->priority == VGPU_PRIORITY_HIGH ? "high" : "low");
}

/* The one line at the start: version, shares and their limits. */
static void tell(void) {
    char line[VGPU_LOG_LINE_SIZE];
    size_t length = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < device_count; i++)
        for (unsigned n = 0; n < devices[i].share_count && length < sizeof line; n++, count++)
            length += describe(line + length, sizeof line - length, &devices[i], devices[i].shares[n].limits);
    vgpu_log(VGPU_LOG_INFO, "libvgpu %s, abi %u.%u, %u share(s)%s", VGPU_VERSION, VGPU_ABI_MAJOR, VGPU_ABI_MINOR, count,
             count ? line : "");
}

static void attach(void) {
    char root[VGPU_PATH_SIZE];
    device_count = 0; /* a parent may have been amid it when it forked us */
    memset(devices, 0, sizeof devices);
    vgpu_process_begin();
    if (access(MOUNTED_SHARES, F_OK) == 0) {
        add_folder(MOUNTED_SHARES, add_mounted_share);
    } else {
        make_shares_from_environment();
        if (vgpu_environment_root(root, sizeof root)) add_folder(root, add_share);
    }
    bool enforced = false;
    for (unsigned i = 0; i < device_count; i++) enforced |= devices[i].share_count || devices[i].refuses;
    if (enforced) {
        vgpu_background_prepare();
        tell();
    } else vgpu_log(VGPU_LOG_WARNING, "no share found: nothing is limited");
}

void vgpu_shares_attach(void) {
    int32_t me = 0;
    int saved = errno;
    for (int32_t seen; VGPU_UNLIKELY((seen = ACQUIRE_LOAD(&attaching)) != ATTACHED);) {
        struct timespec nap = {0, 1000000};
        if (!me) me = (int32_t)getpid();
        if (seen == me) {
            clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, 0);
        } else if (__atomic_compare_exchange_n(&attaching, &seen, me, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            attach();
            RELEASE_STORE(&attaching, ATTACHED);
        }
    }
    errno = saved;
}

struct vgpu_device *vgpu_device_by_uuid(const char *uuid) {
    vgpu_shares_attach();
    struct vgpu_device *device = find_device(uuid);
    return device && (device->share_count || device->refuses) ? device : 0;
}

struct vgpu_device *vgpu_all_devices(unsigned *count) {
    *count = device_count;
    return devices;
}
