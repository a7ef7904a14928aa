/* Physical memory that something else than an address keeps alive: a part of a sparse array, a place in a
 * multicast object. */
#ifndef VGPU_ATTACHMENTS_H
#define VGPU_ATTACHMENTS_H

#include "shares.h"

struct vgpu_physical;

#define VGPU_ARRAY_OBJECT 1u /* of an array's number, so that it meets no multicast object's */

/* A box of an object: its plane (level and layer, or a card), where it starts and how far it reaches. */
struct vgpu_part {
    uint64_t plane, start[3], extent[3];
};

/* Attaches memory, of which the caller gives one reference, to a part; what lay there before goes. */
void vgpu_attach(uint64_t object, const struct vgpu_part *part, struct vgpu_physical *memory);

/* Drops what lies within the part, or all of the object when it is NULL. */
void vgpu_detach(uint64_t object, const struct vgpu_part *part);

/* In a forked child. */
void vgpu_attachments_forget(void);

/* One more reference to the memory behind a handle, or a mapped address; NULL: not known. See memory_physical.c. */
struct vgpu_physical *vgpu_physical_of_handle(CUmemGenericAllocationHandle handle);
struct vgpu_physical *vgpu_physical_of_address(CUdeviceptr address);
void vgpu_physical_drop(struct vgpu_physical *memory);

/* The card that it is charged on. */
struct vgpu_device *vgpu_physical_card(const struct vgpu_physical *memory);

/* Makes the handle of a multicast object known, so that its last release drops what is attached to it. */
void vgpu_physical_know_object(CUmemGenericAllocationHandle handle);

#endif
