/* One thread per process that uses a share's card, and what a forked child must forget. */
#ifndef VGPU_BACKGROUND_H
#define VGPU_BACKGROUND_H

#include <stdbool.h>

/* At attach: registers what a forked child does first. Starts no thread. */
void vgpu_background_prepare(void);

/* In a copy of the process, made by fork or clone: what was the parent's is not ours. */
void vgpu_forget_parent(void);

/* Starts the thread, once per process. */
void vgpu_background_start(void);

/* True once it is there: what changes is noticed. */
bool vgpu_background_runs(void);

#endif
