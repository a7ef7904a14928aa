/* The shim's log: stderr or VGPU_LOG_FILE, off by default, never the tenant's stdout. */
#ifndef VGPU_LOG_H
#define VGPU_LOG_H

#define VGPU_LOG_LINE_SIZE 4096 /* a longer line is cut off; a pipe takes so much at once */

/* Sets the level from a share's limits, unless VGPU_LOG_LEVEL has set it. */
void vgpu_log_level_from_limits(unsigned level);

/* Writes one line if `level` (VGPU_LOG_*) is wanted, at most some 20 lines a second; the next says how many it left
 * out. */
void vgpu_log(unsigned level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A variable of the environment; NULL where it is unset or empty, and in a program that runs with rights which its
 * caller lacks (setuid): the caller must not name files to it. */
const char *vgpu_environment(const char *name);

#endif
