/* One thread per process that uses a share's card, and what a forked child must forget. */
#ifndef VGPU_BACKGROUND_H
#define VGPU_BACKGROUND_H

/* At attach: registers what a forked child does first. Starts no thread. */
void vgpu_background_prepare(void);

/* Starts the thread, once per process. */
void vgpu_background_start(void);

#endif
