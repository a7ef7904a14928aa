/* One line, one write(2): lines of several processes never mix, and nothing is buffered when one dies. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "../include/vgpu_abi.h"

#define LINES_PER_SECOND 20

static const char *const level_names[] = {"off", "error", "warning", "info", "debug"};
static int level_now = -1; /* -1: the environment has not been read */
static int level_is_users;
static long window_second;
static int window_lines;

const char *vgpu_environment(const char *name) {
    const char *value = getauxval(AT_SECURE) ? 0 : getenv(name);
    return value && *value ? value : 0;
}

static int read_level(const char *text) {
    for (int level = 0; level < (int)(sizeof level_names / sizeof *level_names); level++)
        if (strcasecmp(text, level_names[level]) == 0 || (text[0] == '0' + level && !text[1])) return level;
    return VGPU_LOG_OFF;
}

static int wanted_level(void) {
    int level = __atomic_load_n(&level_now, __ATOMIC_RELAXED);
    if (level >= 0) return level;
    const char *text = vgpu_environment("VGPU_LOG_LEVEL");
    level = text ? read_level(text) : (int)VGPU_LOG_OFF;
    __atomic_store_n(&level_is_users, text != 0, __ATOMIC_RELAXED);
    __atomic_store_n(&level_now, level, __ATOMIC_RELAXED);
    return level;
}

void vgpu_log_level_from_limits(unsigned level) {
    if (level > (unsigned)wanted_level() && !__atomic_load_n(&level_is_users, __ATOMIC_RELAXED))
        __atomic_store_n(&level_now, level > VGPU_LOG_DEBUG ? (int)VGPU_LOG_DEBUG : (int)level, __ATOMIC_RELAXED);
}

/* Sets how many lines the second before left out, for the first line of a new second to say. */
static int may_write(time_t second, int *left_out) {
    *left_out = 0;
    if (__atomic_exchange_n(&window_second, (long)second, __ATOMIC_RELAXED) != (long)second)
        *left_out = __atomic_exchange_n(&window_lines, 0, __ATOMIC_RELAXED) - LINES_PER_SECOND;
    return __atomic_fetch_add(&window_lines, 1, __ATOMIC_RELAXED) < LINES_PER_SECOND;
}

static void write_line(const char *line, size_t length) {
    const char *path = vgpu_environment("VGPU_LOG_FILE");
    int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK; /* never waits for a pipe's reader */
    int file = path ? open(path, flags, 0600) : -1;
    ssize_t written = write(file >= 0 ? file : STDERR_FILENO, line, length);
    (void)written; /* a log that cannot be written must not disturb the program */
    if (file >= 0) close(file);
}

static void append(char *line, size_t *length, const char *format, va_list arguments) {
    int added = vsnprintf(line + *length, VGPU_LOG_LINE_SIZE - 1 - *length, format, arguments);
    if (added > 0) *length = strnlen(line, VGPU_LOG_LINE_SIZE - 2);
}

static void append_words(char *line, size_t *length, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append(line, length, format, arguments);
    va_end(arguments);
}

void vgpu_log(unsigned level, const char *format, ...) {
    if ((int)level > wanted_level()) return;
    int saved = errno, left_out;
    char line[VGPU_LOG_LINE_SIZE];
    size_t length = 0;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (may_write(now.tv_sec, &left_out)) {
        append_words(line, &length, "vgpu[%d] %s: ", (int)getpid(), level_names[level]);
        if (left_out > 0) append_words(line, &length, "(%d lines left out) ", left_out);
        va_list arguments;
        va_start(arguments, format);
        append(line, &length, format, arguments);
        va_end(arguments);
        line[length] = '\n';
        write_line(line, length + 1);
    }
    errno = saved;
}
