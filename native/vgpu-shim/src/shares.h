/* The shares of this container, grouped by the card that they are shares of. */
#ifndef VGPU_SHARES_H
#define VGPU_SHARES_H

#include "region.h"

#define VGPU_MAX_DEVICES 64
#define VGPU_MAX_SHARES 8 /* of one card, in one container */

#define VGPU_COUNTERS 16u
#define VGPU_READINGS 6u

/* What this process and its share have paid for, at a moment. */
struct vgpu_reading {
    uint64_t at_ns, process, share;
};

/* What the background knows of a card; see watch.c. */
struct vgpu_watched {
    uint32_t company;    /* atomic; enum vgpu_company */
    uint32_t arrivals;   /* atomic; changes from alone to in company */
    uint32_t ceiling;    /* atomic; percent that a burst share may use; 0: its guarantee only */
    uint32_t correction; /* atomic; what estimates are multiplied by, in 4096ths; 0: as they are */
    uint32_t free;       /* atomic; 1: where nothing caps this process, nobody else wants the card, or none can tell */
    uint32_t terms, turn, looks, others, waited;
    uint64_t span_ns, usual_ns; /* atomic; measured launches since the last turn, and what they usually take */
    uint32_t compared;          /* atomic; how many of them */
    uint64_t longest_ns; /* of the measured launches lately */
    uint64_t done_ns;    /* atomic; when the card should be done with what this process has paid for */
    uint64_t wanted_until_ns, crowded_until_ns, corrected_ns, published_launches;
    struct vgpu_reading readings[VGPU_READINGS]; /* newest first */
};

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
    struct vgpu_watched watched;
};

/* Finds and maps the shares, at the first call. */
void vgpu_shares_attach(void);

/* The card with this UUID, as the vendor's library spells it; NULL when the container has no share of it. */
struct vgpu_device *vgpu_device_by_uuid(const char *uuid);

/* All cards of which there are shares; sets *count. */
struct vgpu_device *vgpu_all_devices(unsigned *count);

/* Makes a share's folder from an environment variable; 0 or a negative errno. See environment.c. */
int vgpu_environment_share(const char *variable, char *folder, size_t size);

/* Whether the words of a variable say that nothing is granted where they make no share, and of which card. */
bool vgpu_environment_denies(const char *variable, char uuid[VGPU_UUID_SIZE]);

/* The folder in which environment.c makes shares; false where it cannot be had. */
bool vgpu_environment_root(char *root, size_t size);

#endif
