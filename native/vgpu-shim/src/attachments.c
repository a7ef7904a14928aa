/* A list: a process has few of these, and they change seldom. */
#include "attachments.h"

#include <stdlib.h>
#include <string.h>

struct attachment {
    uint64_t object;
    struct vgpu_part part;
    struct vgpu_physical *memory;
    struct attachment *next;
};

static struct attachment *attachments;
static struct vgpu_lock attachments_lock;

static bool lies_within(const struct vgpu_part *inner, const struct vgpu_part *outer) {
    if (inner->plane != outer->plane) return false;
    for (unsigned i = 0; i < 3; i++)
        if (inner->start[i] < outer->start[i] ||
            inner->start[i] + inner->extent[i] > outer->start[i] + outer->extent[i])
            return false;
    return true;
}

/* Unlinks what matches; the references are dropped outside the lock. */
static struct attachment *unlink_within(uint64_t object, const struct vgpu_part *part) {
    struct attachment *gone = 0;
    vgpu_lock(&attachments_lock);
    for (struct attachment **at = &attachments; *at;) {
        struct attachment *seen = *at;
        if (seen->object != object || (part && !lies_within(&seen->part, part))) {
            at = &seen->next;
            continue;
        }
        *at = seen->next;
        seen->next = gone;
        gone = seen;
    }
    vgpu_unlock(&attachments_lock);
    return gone;
}

void vgpu_detach(uint64_t object, const struct vgpu_part *part) {
    if (!ACQUIRE_LOAD(&attachments)) return;
    for (struct attachment *gone = unlink_within(object, part); gone;) {
        struct attachment *next = gone->next;
        vgpu_physical_drop(gone->memory);
        free(gone);
        gone = next;
    }
}

void vgpu_attach(uint64_t object, const struct vgpu_part *part, struct vgpu_physical *memory) {
    struct attachment *made = malloc(sizeof *made);
    vgpu_detach(object, part);
    if (!made) {
        vgpu_log(VGPU_LOG_ERROR, "no host memory: a charge stays until the process ends");
        return;
    }
    made->object = object;
    made->part = *part;
    made->memory = memory;
    vgpu_lock(&attachments_lock);
    made->next = attachments;
    RELEASE_STORE(&attachments, made);
    vgpu_unlock(&attachments_lock);
}

void vgpu_attachments_forget(void) {
    attachments = 0;
    memset(&attachments_lock, 0, sizeof attachments_lock);
}
