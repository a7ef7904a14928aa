/* The shim's log: stderr or VGPU_LOG_FILE, off by default, never the tenant's stdout. */
#ifndef VGPU_LOG_H
#define VGPU_LOG_H

/* Sets the level from a share's limits, unless VGPU_LOG_LEVEL has set it. */
void vgpu_log_level_from_limits(unsigned level);

/* Writes one line if `level` (VGPU_LOG_*) is wanted, at most some 20 lines a second. */
void vgpu_log(unsigned level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
