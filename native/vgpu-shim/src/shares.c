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
#include <unistd.h>

#include "background.h"

#define MOUNTED_SHARES "/run/vgpu/shares"
#define VARIABLE_PREFIX "VGPU_SHARE_"

extern char **environ;

static struct vgpu_device devices[VGPU_MAX_DEVICES];
static unsigned device_count;
static struct vgpu_lock attach_lock;
static int attached;

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

static void tell(const struct vgpu_region *region) {
    const struct vgpu_limits *limits = region->limits;
    vgpu_log(VGPU_LOG_INFO, "abi %u.%u share %.63s of %.95s: memory %llu cores %u policy %u", VGPU_ABI_MAJOR,
             VGPU_ABI_MINOR, limits->share_key, limits->device_uuid, (unsigned long long)limits->memory_current_bytes,
             limits->cores_current, limits->compute_policy);
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
    tell(&region);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

/* Adds the shares in `root` in the order of their keys: every process of the container walks the same way. */
static void add_folder(const char *root) {
    struct dirent **entries = 0;
    int count = scandir(root, &entries, 0, by_name);
    for (int i = 0; i < count; i++) {
        char folder[VGPU_PATH_SIZE];
        int length = snprintf(folder, sizeof folder, "%s/%s", root, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && length < (int)sizeof folder) add_share(folder);
        free(entries[i]);
    }
    free(entries);
}

static void make_shares_from_environment(void) {
    for (char **variable = environ; variable && *variable; variable++) {
        char folder[VGPU_PATH_SIZE];
        if (strncmp(*variable, VARIABLE_PREFIX, strlen(VARIABLE_PREFIX)) != 0) continue;
        int result = vgpu_environment_share(*variable + strlen(VARIABLE_PREFIX), folder, sizeof folder);
        if (result < 0) vgpu_log(VGPU_LOG_ERROR, "%s makes no share: %s", *variable, strerror(-result));
    }
}

static void attach(void) {
    char root[VGPU_PATH_SIZE];
    if (access(MOUNTED_SHARES, F_OK) == 0) {
        add_folder(MOUNTED_SHARES);
    } else {
        make_shares_from_environment();
        if (vgpu_environment_root(root, sizeof root)) add_folder(root);
    }
    bool enforced = false;
    for (unsigned i = 0; i < device_count; i++) enforced |= devices[i].share_count || devices[i].refuses;
    if (enforced) vgpu_background_prepare();
    else vgpu_log(VGPU_LOG_WARNING, "no share found: nothing is limited");
}

void vgpu_shares_attach(void) {
    if (VGPU_LIKELY(ACQUIRE_LOAD(&attached))) return;
    int saved = errno;
    vgpu_lock(&attach_lock);
    if (!attached) attach();
    RELEASE_STORE(&attached, 1);
    vgpu_unlock(&attach_lock);
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
