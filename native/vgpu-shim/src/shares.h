/* The shares of this container, grouped by the card that they are shares of. */
#ifndef VGPU_SHARES_H
#define VGPU_SHARES_H

#include "region.h"

#define VGPU_MAX_DEVICES 64
#define VGPU_MAX_SHARES 8 /* of one card, in one container */

#define VGPU_COUNTERS 16u

/* A card of which the container holds one or several shares; they add up. */
struct vgpu_device {
    char uuid[VGPU_UUID_SIZE];
    struct vgpu_region shares[VGPU_MAX_SHARES];
    unsigned share_count;
    bool refuses; /* a share says "deny" and cannot be enforced */
    struct vgpu_lock split_lock;
    struct {
        uint64_t launches;
        char pad[56];
    } counters[VGPU_COUNTERS]; /* this process's launches; see compute.c */
    struct {
        uint32_t is_idle; /* nobody but this share uses the card */
        uint64_t published_launches, asked_ns, share_busy_ns;
    } watched; /* what the background saw last */
};

/* Finds and maps the shares, at the first call. */
void vgpu_shares_attach(void);

/* The card with this UUID, as the vendor's library spells it; NULL when the container has no share of it. */
struct vgpu_device *vgpu_device_by_uuid(const char *uuid);

/* All cards of which there are shares; sets *count. */
struct vgpu_device *vgpu_all_devices(unsigned *count);

/* Makes a share's folder from an environment variable; 0 or a negative errno. See environment.c. */
int vgpu_environment_share(const char *variable, char *folder, size_t size);

/* The folder in which environment.c makes shares; false where it cannot be had. */
bool vgpu_environment_root(char *root, size_t size);

#endif
