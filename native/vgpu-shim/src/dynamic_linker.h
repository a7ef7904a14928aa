/* The C library's own dlopen, dlsym and friends: this library exports dlsym itself, so it must not ask for
 * them by name, and it needs neither libdl nor libpthread, so that programs which never use them do not
 * load them for our sake. */
#ifndef VGPU_DYNAMIC_LINKER_H
#define VGPU_DYNAMIC_LINKER_H

#include <dlfcn.h>

struct vgpu_dl {
    void *(*open)(const char *file, int mode);
    void *(*sym)(void *handle, const char *name);
    void *(*vsym)(void *handle, const char *name, const char *version);
    int (*addr)(const void *address, Dl_info *info);
};

/* Never NULL; members that the C library lacks fail as a failed look-up does. */
const struct vgpu_dl *vgpu_dl(void);

#endif
