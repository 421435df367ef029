// SPDX-License-Identifier: GPL-3.0-or-later
// What must be true before the Swift runtime and libparted initialise themselves.
#include "CEarlyBoot.h"
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

// As PID 1 nothing is mounted, and the Swift runtime ends the process before main when it cannot read
// /proc/self/exe; CommandLine.arguments comes from /proc too. (No setenv here: the runtime has not run yet.)
__attribute__((constructor(101))) static void mount_proc(void) {
    if (getpid() != 1) return;
    mkdir("/proc", 0555);
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
}

// Debian's libparted runs popen("dmidecode ...") from a load-time constructor and uses the result unchecked: without
// /bin/sh it crashes before main. Nothing here may run a shell, so these stand in for libc's. popen must give an empty
// stream: NULL crashes as well.
FILE *popen(const char *command, const char *mode) {
    (void)command;
    (void)mode;
    static char empty[1];
    return fmemopen(empty, 1, "r");
}
int pclose(FILE *stream) { return fclose(stream); }
int system(const char *command) {
    (void)command;
    return -1;
}

// libparted's device-mapper support calls these 19; Debian has no static libdevmapper, and Reforge gives libparted
// nothing but files. Each answers "no" (a null task makes libparted give up on that path).
#define ABSENT(name) __attribute__((weak)) void *name(void) { return 0; }
ABSENT(dm_get_next_target)
ABSENT(dm_set_dev_dir)
ABSENT(dm_task_add_target)
ABSENT(dm_task_create)
ABSENT(dm_task_destroy)
ABSENT(dm_task_get_deps)
ABSENT(dm_task_get_info)
ABSENT(dm_task_get_name)
ABSENT(dm_task_get_uuid)
ABSENT(dm_task_no_open_count)
ABSENT(dm_task_retry_remove)
ABSENT(dm_task_run)
ABSENT(dm_task_set_cookie)
ABSENT(dm_task_set_major_minor)
ABSENT(dm_task_set_name)
ABSENT(dm_task_set_uuid)
ABSENT(dm_task_update_nodes)
ABSENT(dm_udev_set_sync_support)
ABSENT(dm_udev_wait)
