// SPDX-License-Identifier: GPL-3.0-or-later
// A program of a hostile system, run by boot repair as its grub-install. It tries each way for root to escape from a
// chroot, and reports the result of each: NAME=ok, or NAME=errno. Its changes, if possible, are harmless and prepared
// by the test.
//
// Its settings come from /hostile.conf: one `name value` per line.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[4096];

static const char *setting(const char *name) {
    size_t length = strlen(name);
    for (char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (!strncmp(line, name, length) && line[length] == ' ') {
            static char value[4][512];
            static int next;
            char *out = value[next++ % 4];
            snprintf(out, sizeof value[0], "%s", line + length + 1);
            out[strcspn(out, "\n")] = 0;
            return out;
        }
    return "";
}

static void say(const char *name, long result) { printf(result < 0 ? "%s=%s\n" : "%s=ok\n", name, strerrorname_np(errno)); }

static long put(const char *path, const char *words) {
    int file = open(path, O_WRONLY);
    if (file < 0) return -1;
    long count = write(file, words, strlen(words));
    fsync(file);
    close(file);
    return count;
}

// A chroot inside the chroot, with the current folder outside of it, and up from there.
static void leave_root(void) {
    if (fork() == 0) {
        mkdir("/inner", 0700);
        int top = open("/", O_RDONLY | O_DIRECTORY);
        if (chroot("/inner") == 0 && fchdir(top) == 0) {
            for (int i = 0; i < 64; i++) (void)!chdir("..");
            (void)!chroot(".");
        }
        say("chroot", put(setting("victim-file"), "written by a chroot in the chroot"));
        _exit(0);
    }
    wait(NULL);
}

static void others_roots(void) {
    DIR *folder = opendir("/proc");
    long found = -1;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[1024];
        snprintf(path, sizeof path, "/proc/%s/root%s", entry->d_name, setting("victim-file"));
        if (put(path, "written by /proc/PID/root") > 0) found = 1;
    }
    errno = ENOENT;
    say("proc-root", found);
}

static void other_devices(void) {
    DIR *folder = opendir("/dev");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[512];
        struct stat status;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (lstat(path, &status) == 0 && S_ISBLK(status.st_mode)) printf("node %s %u:%u\n", entry->d_name, major(status.st_rdev), minor(status.st_rdev));
    }
}

static long overwrite_device(const char *path) {
    int device = open(path, O_WRONLY);
    if (device < 0) return -1;
    long count = pwrite(device, "written by a node", 17, 0);
    fsync(device);
    close(device);
    return count;
}

static void devices(void) {
    say("node-in-tree", overwrite_device("/victim-node"));
    int number = atoi(setting("victim-minor"));
    say("mknod", mknod("/made-node", S_IFBLK | 0600, makedev(7, number)));
    say("made-node", overwrite_device("/made-node"));
    say("mknod-dev", mknod("/dev/made-node", S_IFBLK | 0600, makedev(7, number)));
    say("made-node-dev", overwrite_device("/dev/made-node"));
    char path[512];
    snprintf(path, sizeof path, "/dev/%s", setting("disk"));
    int disk = open(path, O_RDWR);
    // The loop device that holds the disk: to move it over other bytes of its backing file.
    struct loop_info64 status = {0};
    long got = ioctl(disk, LOOP_GET_STATUS64, &status);
    say("loop-query", got);
    say("loop-move", got < 0 ? -1 : ioctl(disk, LOOP_SET_STATUS64, &status));
    say("reread-table", ioctl(disk, BLKRRPART, 0));
    say("nvme-command", ioctl(disk, _IOWR('N', 0x41, char[72]), NULL));
    say("scsi-command", ioctl(disk, 0x2285, NULL));
    say("freeze", ioctl(open("/", O_RDONLY), FIFREEZE, 0) < 0 ? -1 : ioctl(open("/", O_RDONLY), FITHAW, 0));
}

static void mounts(void) {
    mkdir("/place", 0700);
    say("mount-tmpfs", mount("t", "/place", "tmpfs", 0, NULL));
    say("remount-proc", mount("proc", "/proc", "proc", MS_REMOUNT, NULL));
    say("bind-proc", mount("/proc", "/place", NULL, MS_BIND, NULL));
    say("remount-root", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
    say("umount-root", umount2("/", MNT_DETACH));
    say("umount-dev", umount2("/dev", MNT_DETACH));
    say("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    say("open-tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    say("user-namespace", unshare(CLONE_NEWUSER));
    say("mount-namespace", unshare(CLONE_NEWNS));
    int own = open("/proc/self/ns/mnt", O_RDONLY);
    say("setns", setns(own, 0));
    // clone3 with CLONE_NEWUSER.
    unsigned long arguments[11] = {CLONE_NEWUSER, [4] = SIGCHLD};
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0) _exit(0);
    say("clone3", child);
    child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    say("clone", child);
}

static void kernel(void) {
    char old[256] = {0};
    int file = open("/proc/sys/kernel/core_pattern", O_RDONLY);
    (void)!read(file, old, sizeof old - 1);
    // The current pattern, so that success changes nothing.
    say("core-pattern", put("/proc/sys/kernel/core_pattern", old));
    struct rlimit none = {0, 1}, now = {0};
    say("core-limit", setrlimit(RLIMIT_CORE, &none));
    say("core-limit-64", syscall(SYS_prlimit64, 0, RLIMIT_CORE, &none, NULL));
    say("core-limit-raw", syscall(SYS_setrlimit, RLIMIT_CORE, &none));
    say("read-core-limit", syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, &now));
    say("core-limit-is-1", now.rlim_cur == 1 && now.rlim_max == 1 ? 0 : -1);
    say("other-limit", getrlimit(RLIMIT_NOFILE, &now) < 0 ? -1 : setrlimit(RLIMIT_NOFILE, &now));
    say("sysrq", put("/proc/sysrq-trigger", "h"));
    say("sysfs", put(setting("victim-attribute"), "76"));
    say("efivars", open("/sys/firmware/efi/efivars/Hostile-8be4df61-93ca-11d2-aa0d-00e098032b8c", O_CREAT | O_RDWR, 0600));
    say("init-module", syscall(SYS_init_module, "no module", 9, ""));
    say("finit-module", syscall(SYS_finit_module, open("/hostile.conf", O_RDONLY), "", 0));
    say("bpf", syscall(SYS_bpf, 0, (unsigned[8]){1, 4, 4, 1}, 32));
    say("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0x89ABCDEF, NULL));
    say("swapon", syscall(SYS_swapon, "/hostile.conf", 0));
    say("keyctl", syscall(SYS_keyctl, 0, -4, 0));
    say("io-uring", syscall(425, 1, NULL));
    say("later-call", syscall(467, 0, 0, 0, 0, 0));
    say("raw-io", syscall(SYS_iopl, 3));
    say("vsock", socket(40, SOCK_STREAM, 0));
}

// A process that outlives the program unless it is ended.
static void leave_behind(void) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            for (int i = 0; i < 64; i++) close(i);
            prctl(PR_SET_NAME, setting("daemon"));
            sleep(60);
        }
        _exit(0);
    }
}

static void processes(void) {
    int victim = atoi(setting("victim-process"));
    say("signal", kill(victim, SIGKILL));
    say("trace", ptrace(PTRACE_ATTACH, 1, 0, 0));
    say("memory-of-first", open("/proc/1/mem", O_RDONLY));
    say("environment-of-first", open("/proc/1/environ", O_RDONLY));
    printf("first=%d\n", getpid());
    for (int i = 0; i < 5; i++) {
        const char *names[] = {"mnt", "pid", "net", "ipc", "uts"};
        char path[64], link[128] = {0};
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        (void)!readlink(path, link, sizeof link - 1);
        printf("namespace %s\n", link);
    }
    leave_behind();
}

// An allowed query finds no such ioctl on /dev/null (ENOTTY); calls refused by the filter never reach it (EPERM).
static void device_mapper(void) {
    int null = open("/dev/null", O_RDWR);
    struct dm_ioctl command = {0};
    const struct { const char *name; unsigned long request; } calls[] = {
        {"dm-version", DM_VERSION}, {"dm-list", DM_LIST_DEVICES}, {"dm-status", DM_DEV_STATUS}, {"dm-table", DM_TABLE_STATUS},
        {"dm-deps", DM_TABLE_DEPS}, {"dm-create", DM_DEV_CREATE}, {"dm-load", DM_TABLE_LOAD}, {"dm-suspend", DM_DEV_SUSPEND},
        {"dm-remove", DM_DEV_REMOVE}, {"dm-remove-all", DM_REMOVE_ALL}, {"dm-rename", DM_DEV_RENAME}, {"dm-message", DM_TARGET_MSG},
        {"dm-load-odd-size", _IOWR(0xFD, 9, char[16])},
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) say(calls[i].name, ioctl(null, calls[i].request, &command));
    say("high-bits", syscall(SYS_ioctl, null, 0x100000000UL | DM_DEV_CREATE, &command));
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    int file = open("/hostile.conf", O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) < 0) return 2;
    if (argc > 1 && !strcmp(argv[1], "--stay")) {
        leave_behind();
        sleep(60);
    }
    // The grub.cfg that update-grub writes, through the links in the tree.
    if (strstr(argv[0], "update-grub")) {
        char new[4096];
        ssize_t count = read(open("/new.cfg", O_RDONLY), new, sizeof new);
        file = open("/boot/grub/grub.cfg", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        return file < 0 || write(file, new, (size_t)count) != count;
    }
    printf("\033]0;title\007\n");
    device_mapper();
    devices();
    others_roots();
    leave_root();
    mounts();
    kernel();
    processes();
    other_devices();
    return 0;
}
