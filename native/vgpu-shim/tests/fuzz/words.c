/* A share from words that anybody may have written. Either they are refused, or they make one share, under their own
 * key, in the folder for shares and nowhere else, and it can be mapped. */
#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>

#include "../units/unit.h"

static char root[64];

static void remove_root(void) { rmdir(root); }

int LLVMFuzzerInitialize(int *count, char ***words) {
    (void)count, (void)words;
    snprintf(root, sizeof root, "/tmp/vgpu-fuzz-XXXXXX");
    CHECK(mkdtemp(root) && setenv("VGPU_SHARES_DIR", root, 1) == 0);
    atexit(remove_root);
    return 0;
}

static void remove_file(const char *folder, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK(unlink(path) == 0);
}

static void check_made(const char *variable, const char *folder) {
    struct vgpu_region region;
    size_t key = strcspn(variable, "=");
    CHECK(strncmp(folder, root, strlen(root)) == 0 && strlen(folder) == strlen(root) + 1 + key);
    CHECK(strncmp(folder + strlen(root) + 1, variable, key) == 0 && !memchr(variable, '/', key));
    CHECK(vgpu_region_map(&region, folder) == 0);
    CHECK(region.limits->memory_current_bytes && vgpu_region_cores_limit(&region) < 100);
    CHECK(region.limits->compute_policy <= VGPU_COMPUTE_SHARED && region.limits->priority <= VGPU_PRIORITY_HIGH);
    munmap(region.usage, VGPU_USAGE_SIZE);
    munmap((void *)(uintptr_t)region.limits, VGPU_LIMITS_SIZE);
    remove_file(folder, "limits");
    remove_file(folder, "usage");
    CHECK(rmdir(folder) == 0); /* nothing else was made in it */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char folder[VGPU_PATH_SIZE];
    char *variable = malloc(size + 1);
    CHECK(variable);
    memcpy(variable, bytes, size);
    variable[size] = 0;
    int result = vgpu_environment_share(variable, folder, sizeof folder);
    CHECK(result == 0 || result == -EINVAL || result == -ENAMETOOLONG);
    char uuid[VGPU_UUID_SIZE];
    if (vgpu_environment_denies(variable, uuid)) CHECK(uuid[0] && memchr(uuid, 0, sizeof uuid));
    if (result == 0) check_made(variable, folder);
    free(variable);
    return 0;
}
