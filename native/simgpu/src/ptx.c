/*
 * What the simulator needs from PTX: which entries there are and how wide their parameters are.
 */
#include "cuda_module.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static size_t name_length(const char *text) {
    size_t length = 0;
    while (isalnum((unsigned char)text[length]) || text[length] == '_' || text[length] == '$')
        length++;
    return length;
}

static enum simgpu_kernel_kind kind_of(const char *name, size_t length) {
    if (length == 7 && !memcmp(name, "spin_ns", 7))
        return SIMGPU_KERNEL_SPIN;
    if (length == 8 && !memcmp(name, "fill_u32", 8))
        return SIMGPU_KERNEL_FILL;
    if (length == 7 && !memcmp(name, "add_f32", 7))
        return SIMGPU_KERNEL_ADD;
    return SIMGPU_KERNEL_OTHER;
}

static void add_parameter(CUfunction function, size_t size) {
    unsigned number = function->parameter_count;
    if (number == SIMGPU_MAX_PARAMETERS || size == 0)
        return;
    size_t end = number ? function->parameter_offset[number - 1] + function->parameter_size[number - 1] : 0;
    size_t alignment = size > 8 ? 8 : size;
    function->parameter_offset[number] = (end + alignment - 1) / alignment * alignment;
    function->parameter_size[number] = size;
    function->parameter_count++;
}

/* The parameters that the contract fixes for the kernels that really run. */
static void add_known_parameters(CUfunction function) {
    static const size_t widths[][4] = {
        [SIMGPU_KERNEL_SPIN] = {8}, [SIMGPU_KERNEL_FILL] = {8, 4, 8}, [SIMGPU_KERNEL_ADD] = {8, 8, 8, 8}};
    for (int at = 0; at < 4 && function->kind != SIMGPU_KERNEL_OTHER; at++)
        add_parameter(function, widths[function->kind][at]);
}

CUfunction simgpu_add_function(CUmodule module, const char *name, size_t length) {
    CUfunction function = calloc(1, sizeof *function + length + 1);
    if (!function)
        return NULL;
    memcpy(function->name, name, length);
    function->module = module;
    function->kind = kind_of(name, length);
    function->next = module->functions;
    module->functions = function;
    add_known_parameters(function);
    return function;
}

CUfunction simgpu_find_function(CUmodule module, const char *name) {
    CUfunction at = module->functions;
    while (at && strcmp(at->name, name) != 0)
        at = at->next;
    return at;
}

/* ".param .u64 .ptr .global .align 8 name" or ".param .align 8 .b8 name[24]": the width in bytes. */
static size_t parameter_width(const char *text, const char *end) {
    size_t bits = 0, count = 1;
    for (const char *at = text; at < end; at++) {
        if (*at == '.' && strchr("usbf", at[1]) && at[1] && isdigit((unsigned char)at[2]))
            bits = (size_t)strtoul(at + 2, NULL, 10);
        if (*at == '[')
            count = (size_t)strtoul(at + 1, NULL, 10);
    }
    return bits / 8 * count;
}

static void read_parameters(CUfunction function, const char *text) {
    const char *close = strchr(text, ')');
    const char *brace = strchr(text, '{');
    if (!close || *text != '(' || (brace && brace < close))
        return;
    for (const char *at = strstr(text, ".param"); at && at < close; at = strstr(at + 1, ".param")) {
        const char *end = at + strcspn(at, ",)");
        add_parameter(function, parameter_width(at + 6, end));
    }
}

bool simgpu_read_ptx(CUmodule module, const char *image) {
    const char *start = image + strspn(image, " \t\r\n");
    bool comment = start[0] == '/' && (start[1] == '/' || start[1] == '*');
    if (strncmp(start, ".version", 8) != 0 && !(comment && strstr(start, ".version")))
        return false;
    for (const char *at = strstr(start, ".entry"); at; at = strstr(at + 1, ".entry")) {
        const char *name = at + 6 + strspn(at + 6, " \t\r\n");
        size_t length = name_length(name);
        if (!length || !isspace((unsigned char)at[6]))
            continue;
        CUfunction function = simgpu_add_function(module, name, length);
        if (function && function->kind == SIMGPU_KERNEL_OTHER)
            read_parameters(function, name + length + strspn(name + length, " \t\r\n"));
    }
    return true;
}
