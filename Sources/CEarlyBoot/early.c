// SPDX-License-Identifier: GPL-3.0-or-later
// Setup that must happen before the Swift runtime and libparted initialise.
#define _GNU_SOURCE
#include "CEarlyBoot.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

// For PID 1, nothing is mounted yet, and the Swift runtime ends the process before main if it cannot read
// /proc/self/exe; CommandLine.arguments comes from /proc too. (No setenv here: the runtime has not run yet.)
__attribute__((constructor(101))) static void mount_proc(void) {
    if (getpid() != 1) return;
    mkdir("/proc", 0555);
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
}

// If a standard descriptor is closed, the next opened file gets its number: progress text would go into an image, a
// plan into block 0 of a target. The replacement of standard output is not writable, so that a lost result is an error.
// Without /dev/null (PID 1, an empty chroot), the numbers are taken too; every use of them fails.
__attribute__((constructor(102))) static void open_standard_descriptors(void) {
    static const int modes[3] = {O_RDONLY, O_RDONLY, O_WRONLY};
    for (int number = 0; number < 3; number++) {
        if (fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
        // The lowest free number is this one: those below it are open.
        if (open("/dev/null", modes[number]) < 0) (void)open("/", O_PATH | O_DIRECTORY);
    }
}

// Debian's libparted runs popen("dmidecode ...") from a load-time constructor and uses the result unchecked: without
// /bin/sh it crashes before main. Nothing here may run a shell, so these replace the functions of libc. popen must
// return an empty stream: NULL crashes too.
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

// libparted's device-mapper support calls these 19; Debian has no static libdevmapper, and Reforge passes only files to
// libparted. Each returns null: libparted then does not use device-mapper.
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
